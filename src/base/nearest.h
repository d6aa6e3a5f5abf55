/* "Did you mean": the known name that is nearest to a mistyped one.
 * Pure functions of their arguments: any thread.
 */
#ifndef STRANDD_BASE_NEAREST_H
#define STRANDD_BASE_NEAREST_H

#include <stddef.h>

/* Edits (insert, delete, replace, swap neighbours) that turn `a` into `b`, ASCII
 * letters' case ignored.  Names over 255 bytes: (size_t)-1. */
size_t edit_distance(const char *a, const char *b);

/* The nearest of `names`, borrowed, the first of equals; NULL when none is near
 * enough to be meant (a third of the longer name's length, at least 2). */
const char *nearest(const char *name, const char *const *names, size_t n_names);

/* The same of paths: what the nearest one begins with, too, is no reason to mean it. */
const char *nearest_path(const char *path, const char *const *paths, size_t n_paths);

#endif
