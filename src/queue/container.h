/* From a member back to the struct around it. */
#ifndef STRANDD_QUEUE_CONTAINER_H
#define STRANDD_QUEUE_CONTAINER_H

#include <stddef.h>

/* liburcu's own macro makes clang warn of alignment; the way over void does not. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#endif
