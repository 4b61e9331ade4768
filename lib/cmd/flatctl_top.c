/* flatctl top: a live table. flatd tells totals as JSON; rates are the differences of two looks. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pool.h"
#include "cmd/flatctl.h"
#include "control/yaml.h"

/* More rows than anybody reads; a row more is left out. */
#define ROWS_MAX 4096
#define REFRESH_MS 1000

struct row {
	char service[256];
	char path[16];
	uint64_t open;
	uint64_t opened;
	uint64_t bytes[2];
	double rate[2]; /* bytes a second, sent and received */
};

struct look {
	struct row *rows;
	size_t n;
	double at_s;
};

static atomic_bool ended;

double ctl_now_s(void)
{
	return (double)flat_now_ns() / 1e9;
}

static void on_signal(int sig)
{
	(void)sig;
	ended = true;
}

/* --- flatd's answer --- */

const char *ctl_text_of(const struct yaml_node *map, const char *key)
{
	const struct yaml_node *v = yaml_get(map, key);
	return v && v->text ? v->text : "";
}

uint64_t ctl_number_of(const struct yaml_node *map, const char *key)
{
	return strtoull(ctl_text_of(map, key), NULL, 10);
}

static int read_rows(void *arg, const struct yaml_node *root)
{
	struct look *look = arg;
	const struct yaml_node *services = yaml_get(root, "services");
	const struct yaml_item *i = services ? services->first : NULL;
	for (; i && look->n < ROWS_MAX; i = i->next) {
		struct row *r = &look->rows[look->n++];
		memset(r, 0, sizeof(*r));
		snprintf(r->service, sizeof(r->service), "%s", ctl_text_of(i->value, "service"));
		snprintf(r->path, sizeof(r->path), "%s", ctl_text_of(i->value, "path"));
		r->open = ctl_number_of(i->value, "connections");
		r->opened = ctl_number_of(i->value, "connections_opened");
		r->bytes[0] = ctl_number_of(i->value, "bytes_sent");
		r->bytes[1] = ctl_number_of(i->value, "bytes_received");
	}
	return 0;
}

static const struct row *find_row(const struct look *look, const struct row *like)
{
	for (size_t i = 0; i < look->n; i++) {
		if (strcmp(look->rows[i].service, like->service) == 0 &&
		    strcmp(look->rows[i].path, like->path) == 0)
			return &look->rows[i];
	}
	return NULL;
}

static void find_rates(struct look *look, const struct look *before)
{
	double seconds = look->at_s - before->at_s;
	for (size_t i = 0; i < look->n; i++) {
		struct row *r = &look->rows[i];
		const struct row *old = find_row(before, r);
		for (int k = 0; k < 2; k++) {
			uint64_t was = old ? old->bytes[k] : 0;
			if (seconds > 0 && r->bytes[k] > was)
				r->rate[k] = (double)(r->bytes[k] - was) / seconds;
		}
	}
}

static int by_rate(const void *a, const void *b)
{
	const struct row *x = a;
	const struct row *y = b;
	double dx = x->rate[0] + x->rate[1];
	double dy = y->rate[0] + y->rate[1];
	if (dx != dy)
		return dx < dy ? 1 : -1;
	if (x->open != y->open)
		return x->open < y->open ? 1 : -1;
	int order = strcmp(x->service, y->service);
	return order ? order : strcmp(x->path, y->path);
}

static int take_look(const struct ctl *ctl, struct look *look)
{
	struct flat_strbuf text = {0};
	struct flat_pool pool = {0};
	struct flat_diags diags = {0};
	int ret = ctl_ask(ctl, "top --json", &text, false);
	look->n = 0;
	look->at_s = ctl_now_s();
	/* JSON is YAML. */
	struct yaml_source source = {.file = "flatd", .text = text.data, .len = text.len};
	if (ret == CTL_OK &&
	    (!text.len || yaml_read(&source, &pool, &diags, read_rows, look) != 0)) {
		fprintf(stderr,
			"flatctl: flatd's answer is not understood; is it another version?\n");
		ret = CTL_FAILED;
	}
	flat_diags_fini(&diags);
	flat_pool_fini(&pool);
	flat_strbuf_fini(&text);
	return ret;
}

/* --- the table --- */

const char *ctl_human(double value, char buf[24])
{
	static const char units[] = " kMGTPE";
	int unit = 0;
	while (value >= 999.5 && units[unit + 1]) {
		value /= 1000;
		unit++;
	}
	snprintf(buf, 24, value < 9.95 && unit > 0 ? "%.1f%c" : "%.0f%c", value, units[unit]);
	return buf;
}

static void draw(const struct look *look, int lines, int columns, bool screen)
{
	const char *eol = screen ? "\033[K\n" : "\n";
	int width = columns - 58 > 16 ? columns - 58 : 16;
	char in[24];
	char out[24];
	if (screen)
		fputs("\033[H", stdout);
	printf("%-*.*s %-10s %8s %12s %11s %11s%s", width, width, "SERVICE", "PATH", "OPEN",
	       "OPENED", "SENT/s", "RECEIVED/s", eol);
	int shown = lines - 2 < (int)look->n ? lines - 2 : (int)look->n;
	for (int i = 0; i < shown; i++) {
		const struct row *r = &look->rows[i];
		printf("%-*.*s %-10s %8" PRIu64 " %12" PRIu64 " %11s %11s%s", width, width,
		       r->service, r->path, r->open, r->opened, ctl_human(r->rate[0], in),
		       ctl_human(r->rate[1], out), eol);
	}
	if (screen)
		fputs("\033[J", stdout);
	fflush(stdout);
}

/* q, a signal, or the end of standard input. */
static bool wait_for_end(void)
{
	struct pollfd p = {.fd = 0, .events = POLLIN};
	char key;
	if (poll(&p, 1, REFRESH_MS) < 1)
		return ended;
	return read(0, &key, 1) < 1 || key == 'q' || key == 'Q' || key == 3;
}

static int live(const struct ctl_view *view)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct termios saved;
	bool raw = isatty(0) && tcgetattr(0, &saved) == 0;
	struct winsize size;
	int ret = CTL_OK;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (raw) {
		struct termios t = saved;
		t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		(void)tcsetattr(0, TCSANOW, &t);
	}
	/* The alternate screen: what was there before comes back. */
	fputs("\033[?1049h\033[?25l", stdout);
	while (ret == CTL_OK && !ended) {
		memset(&size, 0, sizeof(size));
		(void)ioctl(1, TIOCGWINSZ, &size);
		view->draw(view->arg, size.ws_row ? size.ws_row : 24,
			   size.ws_col ? size.ws_col : 80, true);
		if (wait_for_end())
			break;
		ret = view->look(view->arg);
	}
	fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	if (raw)
		(void)tcsetattr(0, TCSANOW, &saved);
	return ret;
}

int ctl_view(const struct ctl *ctl, const struct ctl_view *view)
{
	/* Rates need two looks. */
	struct timespec pause = {.tv_nsec = 200000000};
	int ret = view->look(view->arg);
	if (ret != CTL_OK)
		return ret;
	nanosleep(&pause, NULL);
	ret = view->look(view->arg);
	if (ret != CTL_OK)
		return ret;
	if (isatty(1) && !ctl->once)
		return live(view);
	view->draw(view->arg, ROWS_MAX + 2, 108, false);
	return CTL_OK;
}

struct top {
	const struct ctl *ctl;
	struct look before, now;
};

static int look_again(void *arg)
{
	struct top *top = arg;
	struct look swap = top->before;
	int ret;
	top->before = top->now;
	top->now = swap;
	ret = take_look(top->ctl, &top->now);
	find_rates(&top->now, &top->before);
	qsort(top->now.rows, top->now.n, sizeof(*top->now.rows), by_rate);
	return ret;
}

static void draw_top(void *arg, int lines, int columns, bool screen)
{
	draw(&((struct top *)arg)->now, lines, columns, screen);
}

/* One table, without rates' second look when it is JSON: the totals as flatd tells them. */
static int print_json(const struct ctl *ctl)
{
	struct flat_strbuf text = {0};
	int ret = ctl_ask(ctl, "top --json", &text, false);
	if (ret == CTL_OK && text.len > 0)
		fwrite(text.data, 1, text.len, stdout);
	flat_strbuf_fini(&text);
	return ret;
}

int ctl_top(const struct ctl *ctl)
{
	struct top top = {.ctl = ctl};
	struct ctl_view view = {.look = look_again, .draw = draw_top, .arg = &top};
	int ret = CTL_FAILED;
	if (ctl->json)
		return print_json(ctl);
	top.before.rows = calloc(ROWS_MAX, sizeof(*top.before.rows));
	top.now.rows = calloc(ROWS_MAX, sizeof(*top.now.rows));
	if (top.before.rows && top.now.rows)
		ret = ctl_view(ctl, &view);
	free(top.before.rows);
	free(top.now.rows);
	return ret;
}
