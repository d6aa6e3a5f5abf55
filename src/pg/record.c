#include "pg/record.h"

void record_fields(struct buf *sql, const char *columns)
{
	bool quoted = false;

	for (const char *p = columns; *p; p++) {
		quoted ^= *p == '"';
		buf_add(sql, p, 1);
		if (!quoted && *p == ' ')
			buf_adds(sql, "r.");
	}
}
