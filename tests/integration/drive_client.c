/* Drives a client of libstrand from a test: CONNINFO MODULE [TABLE], then a command a
 * line on standard input, its fields separated by tabs, "-" for NULL:
 *
 *	write TABLE DATA TAG...		many TABLE N DATA... TAG...
 *	read TABLE ID			recent TABLE LIMIT TAG...	timeout MS
 *
 * Each is answered with `<code> TAB <SQLSTATE> TAB <error>`, a line for each id or strand,
 * and a line ".". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <strand/strand.h>

enum { MAX_FIELDS = 3000 };

static const char *fields[MAX_FIELDS];
static size_t n_fields;

static void split(char *line)
{
	line[strcspn(line, "\n")] = '\0';
	n_fields = 0;
	for (char *field; n_fields < MAX_FIELDS && (field = strsep(&line, "\t"));)
		fields[n_fields++] = strcmp(field, "-") ? field : NULL;
}

static void head(const struct strand_client *c, int ret)
{
	printf("%s\t%s\t%s\n", strand_error_name(ret), strand_client_sqlstate(c), strand_client_error(c));
}

static void print_ids(const struct strand_client *c, int ret, const char **ids, size_t n)
{
	head(c, ret);
	for (size_t i = 0; !ret && i < n; i++)
		puts(ids[i]);
}

static void print_set(const struct strand_client *c, int ret, struct strand_set *set)
{
	head(c, ret);
	if (ret)
		return;
	for (size_t i = 0; i < strand_set_size(set); i++)
		puts(strand_json(strand_set_get(set, i)));
	if (strand_set_get(set, strand_set_size(set)))
		puts("beyond the end");
	strand_set_free(set);
}

static void run(struct strand_client *c)
{
	const char *ids[MAX_FIELDS];
	struct strand_set *set = NULL;
	const char *verb = fields[0], *table = n_fields > 1 ? fields[1] : NULL;
	size_t n;
	int ret;

	if (!strcmp(verb, "timeout")) {
		strand_client_set_timeout(c, atoi(fields[1]));
		head(c, 0);
	} else if (!strcmp(verb, "write")) {
		ret = strand_client_write(c, table, fields[2], fields + 3, n_fields - 3, ids);
		print_ids(c, ret, ids, 1);
	} else if (!strcmp(verb, "many")) {
		n = strtoul(fields[2], NULL, 10);
		ret = strand_client_write_many(c, table, fields + 3, n, fields + 3 + n, n_fields - 3 - n, ids);
		print_ids(c, ret, ids, n);
	} else if (!strcmp(verb, "read")) {
		ret = strand_client_read(c, table, fields[2], &set);
		print_set(c, ret, set);
	} else {
		ret = strand_client_recent(c, table, fields + 3, n_fields - 3, atoi(fields[2]), &set);
		print_set(c, ret, set);
	}
}

int main(int argc, char **argv)
{
	struct strand_client *client;
	char *line = NULL;
	size_t size = 0;
	int ret;

	if (argc < 3)
		return 2;
	ret = strand_client_open(&client, argv[1], argv[2], argc > 3 ? argv[3] : NULL);
	head(client, ret);
	puts(".");
	fflush(stdout);
	while (getline(&line, &size, stdin) > 0) {
		split(line);
		run(client);
		puts(".");
		fflush(stdout);
	}
	free(line);
	strand_client_close(client);
	return 0;
}
