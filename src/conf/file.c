#include "conf/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(struct buf *text, int fd, size_t max, struct err *e)
{
	char chunk[4096];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, STRAND_EINVAL, "cannot read it: %s", strerror(errno));
		if (text->len + (size_t)n > max)
			return err_set(e, STRAND_EINVAL, "larger than %zu bytes; is this the right file?", max);
		buf_add(text, chunk, (size_t)n);
	}
	if (text->failed)
		return err_set(e, STRAND_ENOMEM, "out of memory");
	if (strlen(text->data) != text->len)
		return err_set(e, STRAND_EINVAL, "holds a NUL byte; is this the right file?");
	return 0;
}

int file_read(struct buf *text, const char *path, size_t max, struct file_access *ret_access,
	      struct err *e)
{
	/* O_NONBLOCK: a named pipe without a writer must not hold us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int r;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_set(e, STRAND_ENOENT, "no such file");
	if (fd < 0)
		return err_set(e, STRAND_EINVAL, "cannot open it: %s", strerror(errno));
	if (fstat(fd, &st) < 0) {
		r = err_set(e, STRAND_EINVAL, "cannot look at it: %s", strerror(errno));
	} else if (S_ISDIR(st.st_mode)) {
		r = err_set(e, STRAND_EINVAL, "is a directory, not a file");
	} else {
		/* As PostgreSQL judges its key files: a group may read what is root's. */
		mode_t others = st.st_uid == 0 ? S_IRWXO | S_IWGRP : S_IRWXO | S_IRWXG;
		*ret_access = (struct file_access){ (st.st_mode & others) != 0, st.st_uid == 0 };
		r = read_all(text, fd, max, e);
	}
	close(fd);
	return r;
}

const char *file_remedy(const struct file_access *a)
{
	return a->by_root ? "chmod 0640" : "chmod 0600";
}
