/* Hand-over points told to ThreadSanitizer.
 *
 * liburcu publishes with inline assembly, in a library that is not built for
 * ThreadSanitizer, so it sees neither the accesses nor the order that they
 * make.  Each place where one thread hands memory to another through liburcu
 * says so with these macros, and nowhere else; nothing of our own code is
 * suppressed.
 *
 * GIVE before a pointer is published or retired, TAKE after it was found:
 * what was done to the memory before any GIVE is seen after the TAKE.
 *
 * OPAQUE stands around a call into liburcu that allocates what a thread of
 * liburcu frees.  Only the library's own memory is touched in between.
 *
 * In other builds all of them evaluate their argument and do nothing.
 */
#ifndef STRANDD_BASE_TSAN_H
#define STRANDD_BASE_TSAN_H

#if defined(__SANITIZE_THREAD__)
#define STRANDD_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STRANDD_TSAN 1
#endif
#endif

#ifdef STRANDD_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define HANDOVER_GIVE(addr) __tsan_release(addr)
#define HANDOVER_TAKE(addr) __tsan_acquire(addr)
#define HANDOVER_OPAQUE_BEGIN() \
	(AnnotateIgnoreReadsBegin(__FILE__, __LINE__), AnnotateIgnoreWritesBegin(__FILE__, __LINE__))
#define HANDOVER_OPAQUE_END() \
	(AnnotateIgnoreWritesEnd(__FILE__, __LINE__), AnnotateIgnoreReadsEnd(__FILE__, __LINE__))
#else
#define HANDOVER_GIVE(addr) ((void)(addr))
#define HANDOVER_TAKE(addr) ((void)(addr))
#define HANDOVER_OPAQUE_BEGIN() ((void)0)
#define HANDOVER_OPAQUE_END() ((void)0)
#endif

#endif
