#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/conf.h"
#include "conf/option.h"
#include "conf/print.h"
#include "conf/report.h"
#include "conf/value.h"

enum { SETS_MAX = 16 };

/* A file in memory, which conf_read opens by name; conf.d is not beside it. */
static const char *put(const void *data, size_t size)
{
	static char path[64];
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("conf", MFD_CLOEXEC);
		PROMISE(fd >= 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	PROMISE(ftruncate(fd, 0) == 0);
	PROMISE(pwrite(fd, data, size, 0) == (ssize_t)size);
	return path;
}

/* Every report is one line that begins with its place, and no control character
 * gets to the terminal. */
static void check_reports(const struct reports *r, int ret)
{
	size_t errors = 0;

	for (size_t i = 0; i < r->n; i++) {
		PROMISE(r->list[i].text[0] != '\0');
		for (const char *p = r->list[i].text; *p; p++)
			PROMISE((unsigned char)*p >= 0x20 && *p != 0x7f);
		errors += !r->list[i].warning;
	}
	PROMISE(!r->no_memory);
	PROMISE((ret == 0) == (r->n_errors == 0));
	PROMISE(ret == 0 || ret == STRAND_EINVAL);
	PROMISE(errors == r->n_errors || r->n == REPORTS_MAX);
}

static void check_bounds(const struct option_table *table, const void *base)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct option *o = &table->options[i];
		const void *place = (const char *)base + o->offset;

		if (o->type == OPTION_INT)
			PROMISE(*(const int *)place >= o->min && *(const int *)place <= o->max);
		if (o->type == OPTION_DECIMAL)
			PROMISE(*(const double *)place >= (double)o->min && *(const double *)place <= (double)o->max);
		if (o->type == OPTION_SIZE)
			PROMISE(*(const int64_t *)place >= o->min && *(const int64_t *)place <= o->max);
		if (o->required)
			PROMISE(*(char *const *)place && **(char *const *)place);
	}
}

/* What was taken is within its bounds, and what --print-config says of it reads back
 * as the same. */
static void check_conf(const struct conf *c)
{
	struct conf_request request = { 0 };
	struct reports reports = REPORTS_INIT;
	struct conf *back = NULL;
	struct buf text;
	int ret;

	check_bounds(&conf_options, c);
	for (size_t i = 0; i < c->n_routes; i++) {
		check_bounds(&route_options, &c->routes[i]);
		PROMISE(conf_receiver(c, c->routes[i].tag));
	}
	buf_init(&text);
	print_conf(&text, c);
	request.file = put(text.data, text.len);
	ret = conf_read(&back, &request, &reports);
	if (ret)
		fprintf(stderr, "%s\n%s", reports.list[0].text, text.data);
	PROMISE(ret == 0);
	for (size_t i = 0; i < conf_options.n; i++)
		PROMISE(conf_options.options[i].secret || value_equal(&conf_options.options[i], c, back));
	PROMISE(back->n_routes == c->n_routes && back->n_modules == c->n_modules);
	for (size_t i = 0; i < c->n_routes; i++) {
		for (size_t k = 0; k < route_options.n; k++)
			PROMISE(value_equal(&route_options.options[k], &c->routes[i], &back->routes[i]));
	}
	conf_free(back);
	reports_release(&reports);
	buf_release(&text);
}

/* Passwords in files of this machine are nobody's business here. */
static int reads_files(const char *text, size_t len)
{
	return memmem(text, len, "password_file", 13) != NULL;
}

/* strndup may not read bytes that no NUL ends, says AddressSanitizer. */
static char *text_of(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1);

	if (!text)
		return NULL;
	memcpy(text, data, len);
	text[len] = '\0';
	return text;
}

int fuzz_conf(const uint8_t *data, size_t size)
{
	const uint8_t *nul = memchr(data, '\0', size);
	size_t len = nul ? (size_t)(nul - data) : size, n = 0;
	char *rest = nul ? text_of(nul + 1, size - len - 1) : NULL, *left = rest;
	const char *sets[SETS_MAX + 1] = { 0 };
	struct conf_request request = { .sets = sets };
	struct reports reports = REPORTS_INIT;
	struct conf *c = NULL;
	int ret;

	if (!reads_files((const char *)data, size)) {
		while (left && n < SETS_MAX)
			sets[n++] = strsep(&left, "\n");
		request.file = put(data, len);
		ret = conf_read(&c, &request, &reports);
		check_reports(&reports, ret);
		if (ret == 0)
			check_conf(c);
	}
	conf_free(c);
	reports_release(&reports);
	free(rest);
	return 0;
}
