#include "strandctl/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

#define BAR_WIDTH 30
#define BAR_MIN_WIDTH 5
#define DRAW_EVERY (NSEC_PER_SEC / 10)

void progress_start(struct progress *p, const char *label, int64_t total)
{
	*p = (struct progress){
		.label = label,
		.total = total,
		.started = clock_now(),
		.on = isatty(STDERR_FILENO),
	};
}

/* Asked at each draw: windows change. */
static size_t terminal_width(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

/* Cuts UTF-8 to so many characters; returns how many are left. */
static size_t cut(char *text, size_t width)
{
	size_t n = 0;

	for (; *text; text++) {
		bool begins = ((unsigned char)*text & 0xc0) != 0x80;

		if (begins && n == width) {
			*text = '\0';
			break;
		}
		n += begins;
	}
	return n;
}

/* " [###...]" in the room that is left, "" when that is too little. */
static void draw_bar(char out[BAR_WIDTH + 4], double share, size_t room)
{
	size_t width = room < BAR_MIN_WIDTH + 3 ? 0 : room - 3 < BAR_WIDTH ? room - 3 : BAR_WIDTH;
	size_t full = (size_t)(share * (double)width);

	*out = '\0';
	if (!width)
		return;
	strcpy(out, " [");
	memset(out + 2, '.', width);
	memset(out + 2, '#', full);
	strcpy(out + 2 + width, "]");
}

static void draw(const struct progress *p, double share, const char *numbers)
{
	/* One in the last column would start a new line on some terminals. */
	size_t width = terminal_width() - 1, used = strlen(numbers);
	char label[200], bar[BAR_WIDTH + 4] = "", line[400];

	snprintf(label, sizeof(label), "%s", p->label);
	used += cut(label, width > used ? width - used : 0);
	if (p->total > 0)
		draw_bar(bar, share, width > used ? width - used : 0);
	snprintf(line, sizeof(line), "%s%s%s", label, bar, numbers);
	cut(line, width);
	fprintf(stderr, "\r%s\033[K", line);
}

void progress_show(struct progress *p, int64_t part, int64_t count)
{
	int64_t now = clock_now();
	double seconds = (double)(now - p->started) / NSEC_PER_SEC;
	double share = p->total > 0 ? (double)part / (double)p->total : 0;
	char percent[8] = "", speed[40] = "", left[40] = "", numbers[120];

	if (!p->on || now - p->drawn < DRAW_EVERY)
		return;
	p->drawn = now;
	/* An estimated total may be too small. */
	share = share > 1 ? 1 : share;
	if (p->total > 0)
		snprintf(percent, sizeof(percent), " %3.0f%%", share * 100);
	if (seconds > 0.5)
		snprintf(speed, sizeof(speed), ", %.0f/s", (double)count / seconds);
	if (seconds > 2 && share > 0.01 && share < 1)
		snprintf(left, sizeof(left), ", %.0f s left", seconds / share - seconds);
	snprintf(numbers, sizeof(numbers), "%s %" PRId64 "%s%s", percent, count, speed, left);
	draw(p, share, numbers);
}

void progress_wipe(struct progress *p)
{
	if (p->on && p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = 0;
}
