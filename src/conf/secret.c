#include "conf/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/buf.h"
#include "conf/check.h"
#include "conf/option.h"
#include "conf/tree.h"

enum { PASSWORD_MAX_BYTES = 4096 };

#define CREDENTIALS "${CREDENTIALS_DIRECTORY}/"

/* The path with systemd's directory of credentials put in.  False: reported. */
static bool expand(struct reading *r, const struct place *place, const char *path, struct buf *out)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	char quoted[QUOTE_SIZE];

	if (strncmp(path, CREDENTIALS, strlen(CREDENTIALS)) == 0) {
		if (!credentials) {
			report_error(r->reports, place, "password_file: CREDENTIALS_DIRECTORY is not set; does the"
				     " unit have LoadCredential=?");
			return false;
		}
		buf_addf(out, "%s/%s", credentials, path + strlen(CREDENTIALS));
	} else {
		buf_adds(out, path);
	}
	if (out->failed) {
		r->reports->no_memory = true;
		return false;
	}
	if (out->data[0] == '/')
		return true;
	report_error(r->reports, place, "password_file must be an absolute path, not %s", quote(quoted, path));
	return false;
}

/* Takes the password out of the file's text. */
static void take(struct reading *r, const struct place *place, struct buf *text, const char *path)
{
	char quoted[QUOTE_SIZE];

	while (text->len > 0 && strchr("\r\n", text->data[text->len - 1]))
		text->data[--text->len] = '\0';
	quote(quoted, path);
	if (text->len == 0) {
		report_error(r->reports, place, "password_file %s is empty", quoted);
	} else if (strpbrk(text->data, "\r\n")) {
		report_error(r->reports, place, "password_file %s must hold the password alone, on one line", quoted);
	} else {
		free(r->conf->db_password);
		r->conf->db_password = buf_steal(text);
	}
}

static void read_file(struct reading *r, const struct place *place, const char *path, bool client)
{
	struct file_access access_ = { 0 };
	char quoted[QUOTE_SIZE];
	struct buf text;
	struct err e;
	int ret;

	if (client && access(path, R_OK) < 0 && errno == EACCES)
		return;
	buf_init(&text);
	ret = file_read(&text, path, PASSWORD_MAX_BYTES, &access_, &e);
	quote(quoted, path);
	if (ret == STRAND_ENOMEM)
		r->reports->no_memory = true;
	else if (ret < 0)
		report_error(r->reports, place, "password_file %s: %s", quoted, e.text);
	else if (access_.open)
		report_error(r->reports, place, "password_file %s: others can read it; say: %s %s", quoted,
			     file_remedy(&access_), path);
	else
		take(r, place, &text, path);
	if (text.data)
		explicit_bzero(text.data, text.len);
	buf_release(&text);
}

void secret_read(struct reading *r, bool client)
{
	const struct place place = *check_place(r->conf, "module_communication.database.password_file");
	struct buf path;

	if (!r->conf->db_password_file)
		return;
	buf_init(&path);
	if (expand(r, &place, r->conf->db_password_file, &path))
		read_file(r, &place, path.data, client);
	buf_release(&path);
}

/* --- that stand in a configuration ------------------------------------------- */

static void refuse_open(struct reading *r, const struct place *place, const struct file_access *access)
{
	report_error(r->reports, place, "a password stands here and others can read this file; say: %s %s"
		     " (or use a password_file, ~/.pgpass or a service file)", file_remedy(access), r->file);
}

void secret_check(struct reading *r, const config_t *config, const struct file_access *access)
{
	for (size_t i = 0; i < conf_options.n && access->open; i++) {
		const struct option *o = &conf_options.options[i];
		const config_setting_t *s = o->secret ? config_lookup(config, o->path) : NULL;
		const struct place place = reading_place(r, s);

		if (s)
			refuse_open(r, &place, access);
	}
}

/* The end of a secret's name in the first `len` bytes of `line`, or NULL. */
static const char *find_name(const char *line, size_t len)
{
	for (size_t i = 0; i < conf_options.n; i++) {
		const char *name = tree_leaf(conf_options.options[i].path);
		size_t n = strlen(name);

		for (size_t at = 0; conf_options.options[i].secret && at + n <= len; at++) {
			if (strncasecmp(line + at, name, n) == 0)
				return line + at + n;
		}
	}
	return NULL;
}

bool secret_in_text(const char *text)
{
	return find_name(text, strlen(text)) != NULL;
}

/* The setting that a line says goes on in the next one, as far as one can tell
 * where nothing is known to be well formed. */
static bool goes_on(const char *line, size_t len)
{
	while (len > 0 && strchr(" \t\r", line[len - 1]))
		len--;
	return len == 0 || !strchr(";{}", line[len - 1]);
}

bool secret_in_line(const char *text, int line)
{
	bool secret = false;

	for (;; line--) {
		size_t len = strcspn(text, "\n");

		secret = secret || find_name(text, len);
		if (line <= 1 || !text[len])
			return secret;
		secret = secret && goes_on(text, len);
		text += len + 1;
	}
}

/* Does a secret's value begin in this line? */
static bool says_secret(const char *line, size_t len)
{
	const char *p = find_name(line, len), *end = line + len;

	line += strspn(line, " \t");
	if (*line == '#' || strncmp(line, "//", 2) == 0)
		return false;
	while (p) {
		const char *sign = p + strspn(p, " \t");

		if (sign < end && (*sign == '=' || *sign == ':'))
			return true;
		p = find_name(p, (size_t)(end - p));
	}
	return false;
}

void secret_check_text(struct reading *r, const char *text, const struct file_access *access)
{
	for (int line = 1; access->open; line++) {
		size_t len = strcspn(text, "\n");

		if (says_secret(text, len)) {
			refuse_open(r, &(struct place){ r->file, line }, access);
			return;
		}
		if (!text[len])
			return;
		text += len + 1;
	}
}
