#include "base/nearest.h"

#include <string.h>

#define NAME_MAX_BYTES 255

static unsigned char lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Three rows of the usual table: the one in work, the one above, and the one
 * above that, which a swap of neighbours looks back to. */
size_t edit_distance(const char *a, const char *b)
{
	size_t rows[3][NAME_MAX_BYTES + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2], *spare;
	size_t n = strlen(a), m = strlen(b);

	if (n > NAME_MAX_BYTES || m > NAME_MAX_BYTES)
		return (size_t)-1;
	for (size_t j = 0; j <= m; j++)
		above[j] = j;
	for (size_t i = 1; i <= n; i++) {
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t differs = lower(a[i - 1]) != lower(b[j - 1]);

			row[j] = min(min(above[j], row[j - 1]) + 1, above[j - 1] + differs);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]))
				row[j] = min(row[j], before[j - 2] + 1);
		}
		spare = before;
		before = above;
		above = row;
		row = spare;
	}
	return above[m];
}

const char *nearest(const char *name, const char *const *names, size_t n_names)
{
	const char *best = NULL;
	size_t best_distance = (size_t)-1;

	for (size_t i = 0; i < n_names; i++) {
		size_t longer = strlen(name) > strlen(names[i]) ? strlen(name) : strlen(names[i]);
		size_t bound = longer / 3 > 2 ? longer / 3 : 2;
		size_t distance = edit_distance(name, names[i]);

		if (distance <= bound && distance < best_distance && distance < longer) {
			best = names[i];
			best_distance = distance;
		}
	}
	return best;
}

const char *nearest_path(const char *path, const char *const *paths, size_t n_paths)
{
	const char *best = nearest(path, paths, n_paths), *rest;
	size_t same = 0;

	while (best && path[same] && lower(path[same]) == lower(best[same]))
		same++;
	rest = best ? best + same : NULL;
	return rest && (!path[same] || !*rest || nearest(path + same, &rest, 1)) ? best : NULL;
}
