/* Text that goes to the database or to people must be whole UTF-8.  Pure. */
#ifndef STRANDD_BASE_UTF8_H
#define STRANDD_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Mends `text` in place: a letter that was cut off at its end is dropped, any
 * other byte that PostgreSQL would refuse becomes '?'. */
void utf8_mend(char *text);

/* Would PostgreSQL take it?  A NUL byte it would not. */
bool utf8_valid(const char *text, size_t len);

#endif
