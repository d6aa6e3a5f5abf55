#include "strandctl/ask.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int ask_line(struct ctl *ctl, char *out, size_t size, struct err *e)
{
	struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN },
				{ .fd = ctl->interrupted.fd, .events = POLLIN } };
	ssize_t n;

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	if (fds[1].revents)
		return err_set(e, STRAND_ESTOPPED, "interrupted");
	n = read(STDIN_FILENO, out, size - 1);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return 0;
}

int ask_yes(struct ctl *ctl, const char *question, struct err *e)
{
	char answer[80];
	int ret;

	fflush(stdout);
	fprintf(stderr, "%s [y/N] ", question);
	ret = ask_line(ctl, answer, sizeof(answer), e);
	if (ret || *answer == 'y' || *answer == 'Y')
		return ret;
	return err_set(e, STRAND_EINVAL, "nothing was changed");
}
