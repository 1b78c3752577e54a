/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One nft_ctx for the base and one netlink socket for sandboxes, used by one worker at a time (lane NFT has room for one job).
 *
 * What is wanted is worked out on the loop and done on the worker. libnftables reports failures as text only, so the errors
 * that matter are recognised by the kernel's sentence (the daemon never sets a locale). The context lives until the last
 * job is over, even when the firewall is freed before.
 */
#include <nftables/libnftables.h>
#include <string.h>
#include <sys/random.h>

#include "loop/workers.h"
#include "net/applied.h"
#include "net/firewall.h"
#include "net/ruleset.h"
#include "util/list.h"
#include "util/log.h"

#define BATCH_MAX 512u

struct context {
	unsigned int refs;	/* loop thread */
	struct nft_ctx *nft;
	struct applied *applied;
};

struct firewall {
	struct workers *workers;
	struct context *context;
	struct list calls;	/* that wait for the batch that runs */
	struct batch *running;
	uint32_t epoch;		/* the last one given out */
};

/* What a worker does at a time: one call, or several sandboxes' texts as one transaction */
struct batch {
	struct firewall *firewall;	/* NULL: freed */
	struct context *context;
	struct list calls;
	unsigned int n;
};

struct nft_call {
	struct list link;
	enum { CALL_SETUP, CALL_DOWN, CALL_CHANGE, CALL_LIST, CALL_SHOW } kind;
	char id[16];		/* whose change it is, who is shown */
	char *text;		/* for libnftables */
	struct change change;
	struct firewall_pin *pins;
	union {
		firewall_done_fn done;
		firewall_list_fn list;
		firewall_show_fn show;
	} fn;
	void *userdata;
	/* results */
	int error;
	char *output, *message;
	char (*names)[16];
	size_t n_names;
};

static struct context *context_unref(struct context *c)
{
	if (c && --c->refs == 0) {
		nft_ctx_free(c->nft);
		applied_free(c->applied);
		free(c);
	}
	return NULL;
}

static struct context *context_new(void)
{
	struct context *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->refs = 1;
	c->nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!c->nft || nft_ctx_buffer_output(c->nft) || nft_ctx_buffer_error(c->nft) || applied_new(&c->applied) < 0) {
		if (c->nft)
			nft_ctx_free(c->nft);
		free(c);
		return NULL;
	}
	return c;
}

static int error_map(const char *message)
{
	if (!message)
		return -EIO;
	if (strstr(message, strerrordesc_np(ENOENT)))
		return -ENOENT;
	if (strstr(message, strerrordesc_np(EEXIST)))
		return -EEXIST;
	return -EIO;
}

/* First line without libnftables' position in a file that does not exist. */
static char *message_copy(const char *s)
{
	static const char prefix[] = "internal:0:0-0: ";

	if (str_starts(s, prefix))
		s += strlen(prefix);
	return strndup(s, strcspn(s, "\n"));
}

/* Returns whether it was done, else what libnftables says. */
static bool run(struct context *context, const char *text, const char **ret_errors)
{
	int r = nft_run_cmd_from_buffer(context->nft, text);

	/* Both must be fetched each time: this is what empties them. */
	nft_ctx_get_output_buffer(context->nft);
	*ret_errors = nft_ctx_get_error_buffer(context->nft);
	return r == 0;
}

static void run_text(struct nft_call *c, struct context *context)
{
	const char *errors;
	bool done = run(context, c->text, &errors);

	applied_forget(context->applied);
	if (!done) {
		c->message = message_copy(errors && *errors ? errors : "libnftables failed without a message");
		c->error = error_map(c->message);
	}
}

static void run_instead(struct nft_call *c, struct context *context, const char *text)
{
	free(c->text);
	c->text = strdup(text);
	if (c->text)
		run_text(c, context);
	else
		c->error = -ENOMEM;
}

/*
 * A set's type and a chain's hook cannot be changed. What another release has declared is replaced in the same transaction; until
 * recovery has put its elements back, each sandbox is closed.
 */
static void run_setup(struct nft_call *c, struct context *context)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 24);
	char made[RULESET_MADE_MAX], look[64];
	const char *errors;

	ruleset_made(made);
	snprintf(look, sizeof(look), "list chain inet declaw %s\n", made);
	if (!run(context, look, &errors))
		c->error = buf_puts(&text, "add table inet declaw\ndelete table inet declaw\n");
	if (c->error == 0)
		c->error = buf_printf(&text, "%sadd chain inet declaw %s\n", c->text, made);
	if (c->error == 0)
		run_instead(c, context, text.data);
}

/* With the gates of those that are known: tables of their own */
static void run_down(struct nft_call *c, struct context *context)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 24);

	c->error = applied_list(context->applied, &c->names, &c->n_names);
	for (size_t i = 0; c->error == 0 && i < c->n_names; i++)
		c->error = buf_printf(&text, "add table netdev " RULESET_TAP_PREFIX "%s\ndelete table netdev " RULESET_TAP_PREFIX "%s\n",
				      c->names[i], c->names[i]);
	if (c->error == 0)
		c->error = buf_puts(&text, c->text);
	if (c->error == 0)
		run_instead(c, context, text.data);
}

static void call_run(struct nft_call *c, struct context *context)
{
	switch (c->kind) {
	case CALL_SETUP:
		run_setup(c, context);
		break;
	case CALL_DOWN:
		run_down(c, context);
		break;
	case CALL_CHANGE:
		c->error = applied_run(context->applied, &c->change, 1);
		break;
	case CALL_LIST:
		c->error = applied_list(context->applied, &c->names, &c->n_names);
		break;
	case CALL_SHOW:
		c->error = applied_show(context->applied, c->id, &c->output);
		break;
	}
}

/* All of them as one transaction. False: not all of them can be, and nothing was changed. */
static bool batch_run_together(struct batch *b)
{
	_cleanup_free_ struct change *changes = calloc(b->n, sizeof(*changes));
	struct nft_call *c;
	size_t n = 0;

	if (!changes)
		return false;
	list_foreach(&b->calls, c, struct nft_call, link)
		changes[n++] = c->change;
	return applied_run(b->context->applied, changes, n) == 0;
}

static void batch_run(void *arg)
{
	struct batch *b = arg;
	struct nft_call *c;

	if (b->n > 1 && batch_run_together(b))
		return;
	list_foreach(&b->calls, c, struct nft_call, link)
		call_run(c, b->context);
}

static void answer(struct nft_call *c, int error)
{
	if (c->kind == CALL_SHOW) {
		c->fn.show(c->userdata, error, error ? NULL : c->output);
	} else if (c->kind == CALL_LIST) {
		c->fn.list(c->userdata, error, error ? NULL : (const char (*)[16])c->names, error ? 0 : c->n_names);
	} else if (c->fn.done) {
		const char *message = error == -ECANCELED ? NULL : c->message;

		c->fn.done(c->userdata, error, message ? message : error < 0 ? strerror(-error) : "");
	}
}

static void call_done(struct nft_call *c)
{
	elems_done(&c->change.want);
	free(c->text);
	free(c->pins);
	free(c->output);
	free(c->message);
	free(c->names);
}

static void call_free(struct nft_call *c)
{
	list_unlink(&c->link);
	call_done(c);
	free(c);
}

static bool joins(const struct batch *b, const struct nft_call *c)
{
	struct nft_call *other;

	if (b->n == BATCH_MAX || c->kind != CALL_CHANGE)
		return false;
	list_foreach(&b->calls, other, struct nft_call, link)
		if (other->kind != CALL_CHANGE || str_eq(other->id, c->id))
			return false;
	return true;
}

static void take(struct batch *b, struct list *from)
{
	struct nft_call *c = list_first(from, struct nft_call, link);

	list_unlink(&c->link);
	list_append(&b->calls, &c->link);
	b->n++;
}

static void batch_done(void *arg, bool cancelled);

/* A callback may free the firewall; these calls are not its own any more. */
static void fail(struct firewall *f, struct batch *b, int error)
{
	struct nft_call *c;

	while (!list_empty(&f->calls))
		take(b, &f->calls);
	while ((c = list_first(&b->calls, struct nft_call, link))) {
		list_unlink(&c->link);
		answer(c, error);
		call_free(c);
	}
}

/*
 * What waits goes on. A transaction costs the kernel more than what is in it, so changes that have had to wait anyway are one;
 * never two of one sandbox, and in their order.
 */
static void next(struct firewall *f)
{
	struct batch *b = calloc(1, sizeof(*b)), none = { 0 };
	int r = -ENOMEM;

	list_init(&none.calls);
	if (b) {
		*b = (struct batch){ .firewall = f, .context = f->context };
		list_init(&b->calls);
		while (!list_empty(&f->calls) && (b->n == 0 || joins(b, list_first(&f->calls, struct nft_call, link))))
			take(b, &f->calls);
		r = workers_submit(f->workers, WORK_LANE_NFT, WORK_NORMAL, 0, batch_run, batch_done, b, NULL);
	}
	if (r < 0) {
		fail(f, b ?: &none, r);
		free(b);
		return;
	}
	b->context->refs++;
	f->running = b;
}

static void batch_done(void *arg, bool cancelled)
{
	struct batch *b = arg;
	struct nft_call *c;

	/* a callback may free the firewall, which answers the rest */
	while (b->firewall && (c = list_first(&b->calls, struct nft_call, link))) {
		list_unlink(&c->link);
		answer(c, cancelled ? -ECANCELED : c->error);
		call_free(c);
	}
	if (b->firewall) {
		b->firewall->running = NULL;
		if (!list_empty(&b->firewall->calls))
			next(b->firewall);
	}
	while ((c = list_first(&b->calls, struct nft_call, link)))
		call_free(c);
	context_unref(b->context);
	free(b);
}

/* Takes what is the model's. Only a failure to start, or r < 0, is answered before this returns. */
static void submit(struct firewall *f, int r, struct nft_call *model)
{
	struct nft_call *c = r == 0 ? malloc(sizeof(*c)) : NULL;

	if (!c) {
		answer(model, r < 0 ? r : -ENOMEM);
		call_done(model);
		return;
	}
	*c = *model;
	c->change.id = c->id;
	c->change.pins = c->pins;
	list_init(&c->link);
	list_append(&f->calls, &c->link);
	if (!f->running)
		next(f);
}

int firewall_new(struct workers *workers, struct firewall **ret)
{
	struct firewall *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->workers = workers;
	list_init(&f->calls);
	/* Connections of an earlier life must not have a mark that means something again, and none is one of the verdicts' */
	if (getrandom(&f->epoch, sizeof(f->epoch), 0) != sizeof(f->epoch)) {
		free(f);
		return -EIO;
	}
	f->epoch = (f->epoch & 0x3fffffff) | 0x40000000;
	f->context = context_new();
	if (!f->context) {
		free(f);
		return -ENOMEM;
	}
	*ret = f;
	return 0;
}

struct firewall *firewall_free(struct firewall *f)
{
	struct nft_call *c;

	if (!f)
		return NULL;
	if (f->running) {
		f->running->firewall = NULL;
		/* a worker may be looking at them */
		list_foreach(&f->running->calls, c, struct nft_call, link)
			answer(c, -ECANCELED);
	}
	while ((c = list_first(&f->calls, struct nft_call, link))) {
		list_unlink(&c->link);
		answer(c, -ECANCELED);
		call_free(c);
	}
	context_unref(f->context);
	free(f);
	return NULL;
}

static struct nft_call change_of(unsigned int kind, const char *id, firewall_done_fn fn, void *userdata)
{
	struct nft_call c = { .kind = CALL_CHANGE, .change.kind = kind, .fn.done = fn, .userdata = userdata };

	snprintf(c.id, sizeof(c.id), "%s", id);
	return c;
}

void firewall_setup(struct firewall *f, const struct firewall_config *config, firewall_done_fn fn, void *userdata)
{
	struct nft_call c = { .kind = CALL_SETUP, .fn.done = fn, .userdata = userdata };
	struct firewall_config own = *config;

	own.epoch = f->epoch += 4;
	submit(f, ruleset_base(&own, &c.text), &c);
}

void firewall_teardown(struct firewall *f, firewall_done_fn fn, void *userdata)
{
	struct nft_call c = { .kind = CALL_DOWN, .fn.done = fn, .userdata = userdata };

	submit(f, ruleset_teardown(&c.text), &c);
}

void firewall_sandbox_close(struct firewall *f, const char *short_id, const char *tap, firewall_done_fn fn,
			    void *userdata)
{
	struct nft_call c = change_of(CHANGE_SET, short_id, fn, userdata);

	submit(f, ruleset_close(short_id, tap, &c.change.want), &c);
}

void firewall_sandbox_set(struct firewall *f, const struct firewall_sandbox *sb, firewall_done_fn fn, void *userdata)
{
	struct nft_call c = change_of(CHANGE_SET, sb->short_id, fn, userdata);
	struct firewall_sandbox own = *sb;

	own.epoch = f->epoch += 4;
	submit(f, ruleset_sandbox(&own, &c.change.want), &c);
}

void firewall_pin(struct firewall *f, const char *short_id, const struct firewall_pin *pins, size_t n,
		  firewall_done_fn fn, void *userdata)
{
	struct nft_call c = change_of(CHANGE_PIN, short_id, fn, userdata);
	int r = n == 0 || n > RULESET_PINS_MAX || !ruleset_id_ok(short_id) ? -EINVAL : 0;

	if (r == 0) {
		c.pins = calloc(n, sizeof(*pins));
		c.change.n_pins = n;
		if (c.pins)
			memcpy(c.pins, pins, n * sizeof(*pins));
		r = c.pins ? 0 : -ENOMEM;
	}
	submit(f, r, &c);
}

void firewall_show(struct firewall *f, const char *short_id, firewall_show_fn fn, void *userdata)
{
	struct nft_call c = change_of(CHANGE_SET, short_id, NULL, userdata);

	c.kind = CALL_SHOW;
	c.fn.show = fn;
	submit(f, ruleset_id_ok(short_id) ? 0 : -EINVAL, &c);
}

void firewall_list(struct firewall *f, firewall_list_fn fn, void *userdata)
{
	struct nft_call c = { .kind = CALL_LIST, .fn.list = fn, .userdata = userdata };

	submit(f, 0, &c);
}

struct removal {
	firewall_done_fn fn;
	void *userdata;
};

/* No table, no elements: gone is what was asked for. */
static void removed(void *userdata, int error, const char *message)
{
	struct removal *m = userdata;

	if (m->fn)
		m->fn(m->userdata, error == -ENOENT ? 0 : error, error == -ENOENT ? "" : message);
	free(m);
}

void firewall_sandbox_remove(struct firewall *f, const char *short_id, const char *tap, firewall_done_fn fn,
			    void *userdata)
{
	_cleanup_elems_ struct elems checked = { 0 };
	struct removal *m = malloc(sizeof(*m));
	struct nft_call c = change_of(CHANGE_REMOVE, short_id, removed, m);

	if (!m) {
		c.fn.done = fn;
		c.userdata = userdata;
		submit(f, -ENOMEM, &c);
		return;
	}
	*m = (struct removal){ .fn = fn, .userdata = userdata };
	submit(f, ruleset_close(short_id, tap, &checked), &c);
}
