/* Writes what is made from the option tables: `documents conf/strandd.conf
 * man/strandd.8`.  The manual keeps what is written by hand around the marks. */
#include <stdio.h>
#include <string.h>

#include "conf/document.h"
#include "conf/file.h"

static int write_file(const char *path, const struct buf *text)
{
	FILE *f = fopen(path, "w");
	size_t n = f && !text->failed ? fwrite(text->data, 1, text->len, f) : 0;

	if (f && fclose(f) == 0 && n == text->len)
		return 0;
	fprintf(stderr, "documents: cannot write %s\n", path);
	return 1;
}

static int write_sample(const char *path)
{
	struct buf text;
	int ret;

	buf_init(&text);
	document_sample(&text);
	ret = write_file(path, &text);
	buf_release(&text);
	return ret;
}

static int write_manual(const char *path)
{
	struct file_access access;
	const char *begin, *end;
	struct buf old, new;
	struct err e;
	int ret = 1;

	buf_init(&old);
	buf_init(&new);
	if (file_read(&old, path, 1 << 20, &access, &e)) {
		fprintf(stderr, "documents: %s: %s\n", path, e.text);
	} else {
		begin = strstr(old.data, DOCUMENT_BEGIN);
		end = begin ? strstr(begin, DOCUMENT_END) : NULL;
		if (!end) {
			fprintf(stderr, "documents: %s lacks the marks\n", path);
		} else {
			buf_add(&new, old.data, (size_t)(begin - old.data));
			document_manual(&new);
			buf_adds(&new, end + strlen(DOCUMENT_END));
			ret = write_file(path, &new);
		}
	}
	buf_release(&old);
	buf_release(&new);
	return ret;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: documents SAMPLE MANUAL\n");
		return EXIT_USAGE;
	}
	return write_sample(argv[1]) || write_manual(argv[2]);
}
