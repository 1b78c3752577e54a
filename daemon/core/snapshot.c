/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Users' snapshots as objects and directories, see snapshot.h. */
#include "core/snapshot.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "core/disk.h"
#include "core/domain.h"
#include "core/manager.h"
#include "util/fileio.h"
#include "util/log.h"

#define RECORD_MAX (64u << 10)

char *snapshot_path(const struct manager *m, const char *id, const char *file)
{
	return str_format("%s/sandboxes/%s%s%s", m->settings.state_dir, id, file ? "/" : "", file ?: "");
}

struct snapshot *snapshot_new(struct manager *m, const char *id)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	list_init(&s->link);
	s->manager = m;
	snprintf(s->id, sizeof(s->id), "%.15s", id);
	return s;
}

struct snapshot *snapshot_free(struct snapshot *s)
{
	if (!s)
		return NULL;
	list_unlink(&s->link);
	free(s->owner);
	free(s->name);
	free(s->template_id);
	free(s->image);
	free(s);
	return NULL;
}

struct snapshot *snapshot_find(struct manager *m, const char *id)
{
	struct snapshot *s;

	list_foreach(&m->snapshots, s, struct snapshot, link)
		if (s->ready && str_eq(s->id, id))
			return s;
	return NULL;
}

struct snapshot *snapshot_find_of(struct manager *m, const char *id, const char *owner, bool admin)
{
	struct snapshot *s = snapshot_find(m, id);

	return s && (admin || str_eq(s->owner, owner)) ? s : NULL;
}

bool snapshot_uses(const struct manager *m, const char *frozen)
{
	const struct snapshot *s;

	list_foreach((struct list *)(uintptr_t)&m->snapshots, s, struct snapshot, link)
		if (str_eq(s->frozen, frozen))
			return true;
	return false;
}

/* --- the record --- */

int snapshot_save(const struct snapshot *s)
{
	_cleanup_json_ json_object *o = json_object_new_object();
	_cleanup_free_ char *path = snapshot_path(s->manager, s->id, SNAPSHOT_RECORD);
	const struct { const char *key, *value; } strings[] = {
		{ "id", s->id }, { "sandbox_id", s->sandbox_id }, { "owner", s->owner }, { "name", s->name },
		{ "template_id", s->template_id }, { "image", s->image }, { "frozen", s->frozen }, { "platform", s->platform },
	};
	const struct { const char *key; uint64_t value; } numbers[] = {
		{ "layers", s->layers }, { "vcpus", s->vcpus }, { "memory_mb", s->memory_mb }, { "disk_mb", s->disk_mb },
		{ "created", s->created_usec }, { "pause", s->pause_usec },
	};
	const char *text = NULL;
	size_t len = 0;
	int r = o && path ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(strings); i++)
		r = json_put_string(o, strings[i].key, strings[i].value);
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(numbers); i++)
		r = json_put_int(o, numbers[i].key, (int64_t)numbers[i].value);
	if (r == 0)
		text = json_text(o, &len);
	if (r == 0)
		r = text ? file_write_atomic(path, text, len, 0600, true) : -ENOMEM;
	return r;
}

static uint64_t get_number(json_object *o, const char *key)
{
	int64_t v = 0;

	json_get_int(o, key, 0, INT64_MAX, &v);
	return (uint64_t)v;
}

static const char *get_text(json_object *o, const char *key)
{
	const char *s = NULL;

	json_get_string(o, key, &s);
	return s ?: "";
}

static int record_parse(struct snapshot *s, json_object *o)
{
	if (!json_object_is_type(o, json_type_object) || !str_eq(get_text(o, "id"), s->id) || !*get_text(o, "owner") ||
	    !ident_sandbox_valid(get_text(o, "sandbox_id")) || !*get_text(o, "image") ||
	    get_number(o, "layers") > SNAPSHOT_LAYERS_MAX)
		return -EBADMSG;
	s->owner = strdup(get_text(o, "owner"));
	s->name = strdup(get_text(o, "name"));
	s->template_id = strdup(get_text(o, "template_id"));
	s->image = strdup(get_text(o, "image"));
	if (!s->owner || !s->name || !s->template_id || !s->image)
		return -ENOMEM;
	snprintf(s->sandbox_id, sizeof(s->sandbox_id), "%s", get_text(o, "sandbox_id"));
	snprintf(s->frozen, sizeof(s->frozen), "%s", get_text(o, "frozen"));
	snprintf(s->platform, sizeof(s->platform), "%s", get_text(o, "platform"));
	s->layers = (unsigned int)get_number(o, "layers");
	s->vcpus = get_number(o, "vcpus");
	s->memory_mb = get_number(o, "memory_mb");
	s->disk_mb = get_number(o, "disk_mb");
	s->created_usec = get_number(o, "created");
	s->pause_usec = get_number(o, "pause");
	s->ready = true;
	return 0;
}

/* --- loading --- */

static void insert_newest_first(struct manager *m, struct snapshot *s)
{
	struct list rest;
	struct snapshot *other;

	list_init(&rest);
	list_foreach(&m->snapshots, other, struct snapshot, link)
		if (other->created_usec < s->created_usec) {
			list_unlink(&other->link);
			list_append(&rest, &other->link);
		}
	list_append(&m->snapshots, &s->link);
	list_foreach(&rest, other, struct snapshot, link) {
		list_unlink(&other->link);
		list_append(&m->snapshots, &other->link);
	}
}

static void load_one(struct manager *m, const char *id)
{
	_cleanup_free_ char *path = snapshot_path(m, id, SNAPSHOT_RECORD), *dir = snapshot_path(m, id, NULL);
	_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);
	_cleanup_json_ json_object *o = NULL;
	struct snapshot *s = snapshot_new(m, id);
	const char *error;
	int r = path && dir && s ? file_read(path, RECORD_MAX, &text) : -ENOMEM;

	if (r == 0)
		r = json_parse(text.data ?: "", text.len, &o, &error);
	if (r == 0)
		r = record_parse(s, o);
	if (r == 0) {
		insert_newest_first(m, s);
		return;
	}
	snapshot_free(s);
	if (r == -ENOMEM || !dir)
		return;
	log_full(LOG_NOTICE, NULL, NULL, r < 0 ? r : -EBADMSG, __FILE__, __LINE__, "Snapshot %s is not whole and is removed: %m", id);
	dir_remove_tree(dir);
}

void snapshot_load(struct manager *m)
{
	_cleanup_free_ char *dir = str_format("%s/sandboxes", m->settings.state_dir);
	DIR *d = dir ? opendir(dir) : NULL;
	const struct dirent *e;

	while (d && (e = readdir(d)))
		if (ident_snapshot_valid(e->d_name))
			load_one(m, e->d_name);
	if (d)
		closedir(d);
}

void snapshot_stop(struct manager *m)
{
	struct snapshot *s;

	list_foreach(&m->snapshots, s, struct snapshot, link)
		snapshot_free(s);
}

/* --- files --- */

int snapshot_link_layers(const char *from, const char *to, unsigned int layers)
{
	for (unsigned int i = 0; i <= layers; i++) {
		_cleanup_free_ char *old = NULL, *new = NULL;
		char name[DOMAIN_LAYER_MAX];

		domain_layer_name(i, name);
		old = str_format("%s/%s", from, name);
		new = str_format("%s/%s", to, name);
		if (!old || !new)
			return -ENOMEM;
		if (link(old, new) < 0)
			return -errno;
	}
	return 0;
}

static void files_gone(void *userdata _unused_, int error, const char *message)
{
	/* What is left is no snapshot without its record, and goes at the next start */
	if (error < 0 && error != -ECANCELED)
		log_full(LOG_WARNING, NULL, NULL, error, __FILE__, __LINE__, "Removing a snapshot: %s: %m", message);
}

void snapshot_remove_files(struct manager *m, const char *id)
{
	_cleanup_free_ char *dir = snapshot_path(m, id, NULL), *record = snapshot_path(m, id, SNAPSHOT_RECORD);

	if (!dir || !record)
		return;
	/* The record first: half a snapshot must never look like one */
	unlink(record);
	disk_remove_tree(m->workers, dir, files_gone, NULL);
}

void snapshot_remove(struct snapshot *s)
{
	log_info("Snapshot %s of sandbox %s is removed", s->id, s->sandbox_id);
	snapshot_remove_files(s->manager, s->id);
	snapshot_free(s);
}
