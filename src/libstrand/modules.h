/* The specification's modules: their tables, and the tags that are sent to them.  Pure. */
#ifndef STRANDD_LIBSTRAND_MODULES_H
#define STRANDD_LIBSTRAND_MODULES_H

#include <stddef.h>

struct spec_route {
	const char *module;	/* who is meant: "dm" */
	const char *tag;
	const char *source;	/* table that the strands are in */
};

extern const struct spec_route spec_routes[];
extern const size_t n_spec_routes;

/* "AD_strands" for "alpha"; NULL for a module that the specification has not. */
const char *module_table(const char *module);

#endif
