#include "strandctl/known_bad.h"

#define LATEST "install the newest minor release"

#define CONCURRENTLY \
	"CREATE INDEX CONCURRENTLY, with which strandctl builds indexes, can leave rows out"
#define NOTIFY \
	"a session that reads its notifications late can fail with \"could not access status of transaction\""
#define SUBSTRING \
	"substring() of a large text can complain of its encoding without a reason, in a handler too"
#define QUOTING "the functions that quote names and texts can be led astray by text in a broken encoding (CVE-2025-1094)"

static const struct known_bad server[] = {
	{ 140000, 140004, CONCURRENTLY, LATEST ", then REINDEX the module tables' indexes" },
	/* All that are older than the fix of November 2025. */
	{ 140000, 140020, NOTIFY, LATEST },
	{ 150000, 150015, NOTIFY, LATEST },
	{ 160000, 160011, NOTIFY, LATEST },
	{ 170000, 170007, NOTIFY, LATEST },
	{ 180000, 180001, NOTIFY, LATEST },
	/* One release each, of 12 February 2026. */
	{ 140021, 140022, SUBSTRING, LATEST },
	{ 150016, 150017, SUBSTRING, LATEST },
	{ 160012, 160013, SUBSTRING, LATEST },
	{ 170008, 170009, SUBSTRING, LATEST },
	{ 180002, 180003, SUBSTRING, LATEST },
};

static const struct known_bad libpq[] = {
	{ 140000, 140016, QUOTING, LATEST },
	{ 150000, 150011, QUOTING, LATEST },
	{ 160000, 160007, QUOTING, LATEST },
	{ 170000, 170003, QUOTING, LATEST },
};

static const struct known_bad *next(const struct known_bad *rows, size_t n, int version, size_t *at)
{
	while (*at < n) {
		const struct known_bad *row = &rows[(*at)++];

		if (version >= row->from && version < row->below)
			return row;
	}
	return NULL;
}

const struct known_bad *known_bad_server(int version, size_t *at)
{
	return next(server, sizeof(server) / sizeof(*server), version, at);
}

const struct known_bad *known_bad_libpq(int version, size_t *at)
{
	return next(libpq, sizeof(libpq) / sizeof(*libpq), version, at);
}
