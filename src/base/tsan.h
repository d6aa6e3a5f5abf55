/* Hand-over points told to ThreadSanitizer.
 *
 * liburcu 0.13 publishes with inline assembly that ThreadSanitizer cannot see.
 * Each place where one thread hands memory to another through liburcu says so
 * here, and nowhere else; nothing of our own code is suppressed.
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
#define HANDOVER_GIVE(addr) __tsan_release(addr)
#define HANDOVER_TAKE(addr) __tsan_acquire(addr)
#else
#define HANDOVER_GIVE(addr) ((void)(addr))
#define HANDOVER_TAKE(addr) ((void)(addr))
#endif

#endif
