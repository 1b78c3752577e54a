/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One nft_ctx and one pinset, used by one worker at a time (lane NFT has room for one job).
 *
 * The text is built on the loop and run on the worker; text comes back and is read on the loop. libnftables reports
 * failures as text only, so the errors that matter are recognised by the kernel's sentence (the daemon never sets a
 * locale). The context lives until the last job is over, even when the firewall is freed before.
 */
#include <nftables/libnftables.h>
#include <string.h>

#include "loop/workers.h"
#include "net/firewall.h"
#include "net/pinset.h"
#include "net/ruleset.h"
#include "util/json.h"
#include "util/list.h"
#include "util/log.h"

#define LIST_MAX_BYTES (16u << 20)
#define SHORT_ID_MAX 24
#define BATCH_MAX 64u

struct context {
	unsigned int refs;	/* loop thread */
	struct nft_ctx *nft;
	struct pinset *pinset;
};

struct firewall {
	struct workers *workers;
	struct context *context;
	struct list calls;	/* that wait for the batch that runs */
	struct batch *running;
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
	char id[SHORT_ID_MAX];	/* whose text it is; "" = runs alone */
	char *json;
	enum { CALL_DONE, CALL_LIST, CALL_SHOW, CALL_PIN } kind;
	struct firewall_pin *pins;	/* for the set `json` */
	size_t n_pins;
	union {
		firewall_done_fn done;
		firewall_list_fn list;
		firewall_show_fn show;
	} fn;
	void *userdata;
	/* results */
	int error;
	char *output, *message;
};

typedef char short_name[16];

static struct context *context_unref(struct context *c)
{
	if (c && --c->refs == 0) {
		nft_ctx_free(c->nft);
		pinset_free(c->pinset);
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
	if (!c->nft || nft_ctx_buffer_output(c->nft) || nft_ctx_buffer_error(c->nft) || pinset_new(&c->pinset) < 0) {
		if (c->nft)
			nft_ctx_free(c->nft);
		free(c);
		return NULL;
	}
	/* Answers are JSON; numbers instead of names that the host's databases decide. */
	nft_ctx_output_set_flags(c->nft, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_NUMERIC_ALL);
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

/* Rows of one answer behind those of the others */
static int rows_append(json_object *rows, const char *output)
{
	_cleanup_json_ json_object *root = NULL;
	json_object *more;
	const char *why;

	if (strlen(output) > LIST_MAX_BYTES || json_parse(output, strlen(output), &root, &why) != 0 ||
	    json_get_array(root, "nftables", &more) != 0)
		return -EIO;
	for (size_t i = 0; i < json_object_array_length(more); i++)
		if (json_object_array_add(rows, json_object_get(json_object_array_get_idx(more, i))) < 0)
			return -ENOMEM;
	return 0;
}

/* Line by line: nft 1.0.6 cannot list a chain and a set in one go, and answers each with a document of its own */
static void call_run_show(struct nft_call *c, struct nft_ctx *nft)
{
	_cleanup_json_ json_object *root = json_object_new_object();
	json_object *rows = json_object_new_array();
	char *save = NULL;

	if (!root || !rows || json_put(root, "nftables", rows) < 0) {
		c->error = -ENOMEM;
		return;
	}
	for (char *line = strtok_r(c->json, "\n", &save); line && c->error == 0; line = strtok_r(NULL, "\n", &save)) {
		int r = nft_run_cmd_from_buffer(nft, line);
		const char *output = nft_ctx_get_output_buffer(nft), *errors = nft_ctx_get_error_buffer(nft);

		if (r == 0) {
			c->error = rows_append(rows, output);
			continue;
		}
		c->message = message_copy(errors && *errors ? errors : "libnftables failed without a message");
		c->error = error_map(c->message);
	}
	c->output = c->error == 0 ? strdup(json_text(root, NULL)) : NULL;
}

static void call_run(struct nft_call *c, struct context *context)
{
	struct nft_ctx *nft = context->nft;
	const char *output, *errors;
	int r;

	if (c->kind == CALL_SHOW) {
		call_run_show(c, nft);
		return;
	}
	if (c->kind == CALL_PIN) {
		c->error = pinset_add(context->pinset, c->json, c->pins, c->n_pins);
		return;
	}
	r = nft_run_cmd_from_buffer(nft, c->json);
	/* Both must be fetched each time: this is what empties them. */
	output = nft_ctx_get_output_buffer(nft);
	errors = nft_ctx_get_error_buffer(nft);
	if (r != 0) {
		c->message = message_copy(errors && *errors ? errors : "libnftables failed without a message");
		c->error = error_map(c->message);
	} else if (c->kind == CALL_LIST) {
		c->output = strdup(output ? output : "");
		c->error = c->output ? 0 : -ENOMEM;
	}
}

/* All of them as one transaction. False: not all of them can be, and nothing was changed. */
static bool batch_run_together(struct batch *b)
{
	_cleanup_free_ char *text = NULL;
	struct nft_call *c;
	size_t len = 0;
	char *at;
	int r;

	list_foreach(&b->calls, c, struct nft_call, link)
		len += strlen(c->json);
	at = text = malloc(len + 1);
	if (!text)
		return false;
	list_foreach(&b->calls, c, struct nft_call, link)
		at = stpcpy(at, c->json);
	r = nft_run_cmd_from_buffer(b->context->nft, text);
	nft_ctx_get_output_buffer(b->context->nft);
	nft_ctx_get_error_buffer(b->context->nft);
	return r == 0;
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

/* {"nftables": [{"metainfo": ...}, {"chain": {"table": "declaw", "name": "sbx_...", ...}}, ...]} */
static bool row_is_sandbox(json_object *row, short_name *ret)
{
	json_object *chain;
	const char *table, *name;

	if (json_get_object(row, "chain", &chain) != 0 || json_get_string(chain, "table", &table) != 0 ||
	    json_get_string(chain, "name", &name) != 0)
		return false;
	if (!str_eq(table, "declaw") || !str_starts(name, RULESET_CHAIN_PREFIX))
		return false;
	name += strlen(RULESET_CHAIN_PREFIX);
	if (strlen(name) >= sizeof(*ret))
		return false;
	memcpy(*ret, name, strlen(name) + 1);
	return true;
}

static int parse_names(const char *output, short_name **ret, size_t *ret_n)
{
	_cleanup_json_ json_object *root = NULL;
	json_object *rows;
	const char *why;
	short_name *v;
	size_t n = 0, count;

	if (strlen(output) > LIST_MAX_BYTES || json_parse(output, strlen(output), &root, &why) != 0 ||
	    json_get_array(root, "nftables", &rows) != 0)
		return -EIO;
	count = json_object_array_length(rows);
	v = calloc(count + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (row_is_sandbox(json_object_array_get_idx(rows, i), &v[n]))
			n++;
	*ret = v;
	*ret_n = n;
	return 0;
}

static void answer(struct nft_call *c, int error)
{
	_cleanup_free_ short_name *names = NULL;
	size_t n = 0;

	if (c->kind == CALL_SHOW) {
		c->fn.show(c->userdata, error, error ? NULL : c->output);
	} else if (c->kind == CALL_LIST) {
		if (error == 0)
			error = parse_names(c->output, &names, &n);
		c->fn.list(c->userdata, error, (const char (*)[16])names, n);
	} else if (c->fn.done) {
		const char *message = error == -ECANCELED ? NULL : c->message;

		c->fn.done(c->userdata, error, message ? message : error < 0 ? strerror(-error) : "");
	}
}

static void call_free(struct nft_call *c)
{
	list_unlink(&c->link);
	free(c->json);
	free(c->pins);
	free(c->output);
	free(c->message);
	free(c);
}

static bool joins(const struct batch *b, const struct nft_call *c)
{
	struct nft_call *other;

	if (b->n == BATCH_MAX || !*c->id)
		return false;
	list_foreach(&b->calls, other, struct nft_call, link)
		if (!*other->id || str_eq(other->id, c->id))
			return false;
	return true;
}

static void batch_done(void *arg, bool cancelled);

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
 * What waits goes on. libnftables reads all of the host's chains and sets before it changes anything, so texts that have
 * had to wait anyway are run together; never two of one sandbox, and in their order.
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

/* Takes json and pins. Only a failure to start is answered before this returns. */
static void submit(struct firewall *f, char *json, struct nft_call *model)
{
	struct nft_call *c = calloc(1, sizeof(*c));

	model->json = json;
	list_init(&model->link);
	if (!c) {
		answer(model, -ENOMEM);
		free(model->json);
		free(model->pins);
		return;
	}
	*c = *model;
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

/* id: the sandbox whose text it is, NULL when it is about all of them */
static void simple(struct firewall *f, int r, const char *id, char *json, firewall_done_fn fn, void *userdata)
{
	struct nft_call model = { .fn.done = fn, .userdata = userdata };

	snprintf(model.id, sizeof(model.id), "%s", id ?: "");

	if (r < 0)
		answer(&model, r);
	else
		submit(f, json, &model);
}

void firewall_setup(struct firewall *f, const struct firewall_config *config, firewall_done_fn fn, void *userdata)
{
	char *json = NULL;
	int r = ruleset_base(config, &json);

	simple(f, r, NULL, json, fn, userdata);
}

void firewall_sandbox_close(struct firewall *f, const char *short_id, const char *tap, firewall_done_fn fn,
			    void *userdata)
{
	char *json = NULL;
	int r = ruleset_close(short_id, tap, &json);

	simple(f, r, short_id, json, fn, userdata);
}

void firewall_sandbox_set(struct firewall *f, const struct firewall_sandbox *sb, firewall_done_fn fn, void *userdata)
{
	char *text = NULL;
	int r = ruleset_sandbox(sb, &text);

	simple(f, r, sb->short_id, text, fn, userdata);
}

void firewall_pin(struct firewall *f, const char *short_id, const struct firewall_pin *pins, size_t n,
		  firewall_done_fn fn, void *userdata)
{
	struct nft_call model = { .kind = CALL_PIN, .fn.done = fn, .userdata = userdata, .n_pins = n };
	char *set = NULL;
	int r = n > PINSET_MAX ? -EINVAL : ruleset_pin_set(short_id, &set);

	if (r == 0) {
		model.pins = calloc(n + 1, sizeof(*pins));
		r = model.pins ? 0 : -ENOMEM;
	}
	if (r < 0) {
		free(set);
		answer(&model, r);
		return;
	}
	memcpy(model.pins, pins, n * sizeof(*pins));
	submit(f, set, &model);
}

void firewall_show(struct firewall *f, const char *short_id, firewall_show_fn fn, void *userdata)
{
	struct nft_call model = { .kind = CALL_SHOW, .fn.show = fn, .userdata = userdata };
	char *text = NULL;
	int r = ruleset_show(short_id, &text);

	if (r < 0)
		answer(&model, r);
	else
		submit(f, text, &model);
}

struct removal {
	firewall_done_fn fn;
	void *userdata;
};

/* No table, no chain: gone is what was asked for. */
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
	struct removal *m = malloc(sizeof(*m));
	char *json = NULL;
	int r;

	if (!m) {
		simple(f, -ENOMEM, NULL, NULL, fn, userdata);
		return;
	}
	*m = (struct removal) { .fn = fn, .userdata = userdata };
	r = ruleset_remove(short_id, tap, &json);
	simple(f, r, short_id, json, removed, m);
}

void firewall_list(struct firewall *f, firewall_list_fn fn, void *userdata)
{
	struct nft_call model = { .kind = CALL_LIST, .fn.list = fn, .userdata = userdata };
	char *json = NULL;
	int r = ruleset_list(&json);

	if (r < 0)
		answer(&model, r);
	else
		submit(f, json, &model);
}

void firewall_teardown(struct firewall *f, firewall_done_fn fn, void *userdata)
{
	char *json = NULL;
	int r = ruleset_teardown(&json);

	simple(f, r, NULL, json, fn, userdata);
}
