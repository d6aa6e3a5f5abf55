#include "conf/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "conf/check.h"
#include "conf/option.h"

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

void secret_check(struct reading *r, const config_t *config, const struct file_access *access)
{
	for (size_t i = 0; i < conf_options.n && access->open; i++) {
		const struct option *o = &conf_options.options[i];
		const config_setting_t *s = o->secret ? config_lookup(config, o->path) : NULL;

		if (s)
			reading_error(r, s, "a password stands here and others can read this file; say: %s %s"
				      " (or use a password_file, ~/.pgpass or a service file)",
				      file_remedy(access), r->file);
	}
}
