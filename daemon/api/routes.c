/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The route table: every route of the wire contract. Those that a later version owns answer 404 `not_implemented_yet`,
 * never a fake success; what is not here at all answers 404 `route_unknown`. Routes match in this order.
 */
#include "api/api.h"

#define LATER(m, p) { m, p, HTTP_BODY_NONE, false, route_later }
#define ROUTE(m, p, body, fn) { m, p, HTTP_BODY_##body, false, fn }

void route_later(struct http_request *req, void *userdata _unused_)
{
	api_fail(req, FAULT_ROUTE_LATER, NULL);
}

const struct http_route api_routes[] = {
	{ "GET", "/healthz", HTTP_BODY_NONE, true, health_get },

	/* sandboxes */
	ROUTE("POST", "/sandboxes", BUFFER, sandboxes_create),
	ROUTE("GET", "/sandboxes", NONE, sandboxes_list),
	ROUTE("GET", "/sandboxes/{id}", NONE, sandboxes_get),
	ROUTE("DELETE", "/sandboxes/{id}", NONE, sandboxes_delete),
	ROUTE("POST", "/sandboxes/kill-many", BUFFER, sandboxes_kill_many),
	ROUTE("GET", "/sandboxes/{id}/status", NONE, sandboxes_status),
	ROUTE("PATCH", "/sandboxes/{id}/timeout", BUFFER, sandboxes_timeout),
	ROUTE("GET", "/sandboxes/{id}/metrics", NONE, metrics_get),
	ROUTE("GET", "/sandboxes/{id}/audit", NONE, audit_get),
	ROUTE("POST", "/sandboxes/{id}/pause", NONE, lifecycle_pause),
	ROUTE("POST", "/sandboxes/{id}/resume", NONE, lifecycle_resume),
	ROUTE("GET", "/sandboxes/{id}/network", NONE, network_get),
	ROUTE("PATCH", "/sandboxes/{id}/network", BUFFER, network_patch),

	/* snapshots */
	ROUTE("POST", "/sandboxes/{id}/snapshot", BUFFER, snapshots_make),
	ROUTE("POST", "/sandboxes/{id}/snapshots", BUFFER, snapshots_make),
	ROUTE("GET", "/sandboxes/{id}/snapshots", NONE, snapshots_of),
	ROUTE("DELETE", "/sandboxes/{id}/snapshots/{snapshot_id}", NONE, snapshots_delete),
	ROUTE("POST", "/sandboxes/{id}/restore", BUFFER, snapshots_restore),
	ROUTE("GET", "/snapshots", NONE, snapshots_list),

	/* ports */
	ROUTE("*", "/sandboxes/{id}/ports/{port}/{path*}", STREAM, ports_proxy),

	/* commands */
	ROUTE("POST", "/sandboxes/{id}/commands", BUFFER, commands_run),
	ROUTE("GET", "/sandboxes/{id}/commands", NONE, commands_list),
	ROUTE("DELETE", "/sandboxes/{id}/commands/{pid}", NONE, commands_kill),
	ROUTE("POST", "/sandboxes/{id}/commands/{pid}/stdin", BUFFER, commands_stdin),
	ROUTE("GET", "/sandboxes/{id}/commands/{pid}/wait", NONE, commands_wait),
	ROUTE("POST", "/sandboxes/{id}/commands/stream", BUFFER, commands_stream),

	/* stdio */
	ROUTE("POST", "/sandboxes/{id}/stdio", BUFFER, stdio_start),
	ROUTE("POST", "/sandboxes/{id}/stdio/{cmd_id}/stdin", BUFFER, stdio_stdin),
	ROUTE("POST", "/sandboxes/{id}/stdio/{cmd_id}/stdin/close", NONE, stdio_close),
	ROUTE("DELETE", "/sandboxes/{id}/stdio/{cmd_id}", NONE, stdio_kill),
	ROUTE("GET", "/sandboxes/{id}/stdio/{cmd_id}/stream", NONE, stdio_stream),

	/* pty */
	ROUTE("POST", "/sandboxes/{id}/pty", BUFFER, pty_create),
	ROUTE("POST", "/sandboxes/{id}/pty/{pid}/stdin", BUFFER, pty_stdin),
	ROUTE("PATCH", "/sandboxes/{id}/pty/{pid}", BUFFER, pty_resize),
	ROUTE("DELETE", "/sandboxes/{id}/pty/{pid}", NONE, pty_kill),
	ROUTE("GET", "/sandboxes/{id}/pty/{pid}/stream", NONE, pty_stream),

	/* files */
	ROUTE("GET", "/sandboxes/{id}/files", NONE, files_read),
	ROUTE("POST", "/sandboxes/{id}/files", BUFFER, files_write),
	ROUTE("GET", "/sandboxes/{id}/files/raw", NONE, files_read),
	ROUTE("PUT", "/sandboxes/{id}/files/raw", STREAM, files_write_raw),
	ROUTE("POST", "/sandboxes/{id}/files/batch", BUFFER, files_batch),
	ROUTE("GET", "/sandboxes/{id}/files/list", NONE, files_list),
	ROUTE("GET", "/sandboxes/{id}/files/exists", NONE, files_exists),
	ROUTE("GET", "/sandboxes/{id}/files/info", NONE, files_info),
	ROUTE("DELETE", "/sandboxes/{id}/files", NONE, files_remove),
	ROUTE("PATCH", "/sandboxes/{id}/files", BUFFER, files_rename),
	ROUTE("POST", "/sandboxes/{id}/files/mkdir", BUFFER, files_mkdir),
	ROUTE("POST", "/sandboxes/{id}/files/watch", BUFFER, files_watch_check),
	ROUTE("GET", "/sandboxes/{id}/files/watch", NONE, files_watch),

	/* templates */
	LATER("POST", "/templates/build"),
	LATER("GET", "/templates/builds/{build_id}"),
	LATER("GET", "/templates"),
	LATER("GET", "/templates/{template_id}"),
	LATER("DELETE", "/templates/{template_id}"),
	LATER("POST", "/templates/{template_id}/rebuild"),

	/* volumes */
	LATER("POST", "/volumes"),
	LATER("GET", "/volumes"),
	LATER("GET", "/volumes/{volume_id}"),
	LATER("GET", "/volumes/{volume_id}/download"),
	LATER("DELETE", "/volumes/{volume_id}"),
	LATER("POST", "/volumes/empty"),
	LATER("POST", "/volumes/ingest"),
	LATER("POST", "/sandboxes/{id}/volumes/{volume_id}/commit"),
	LATER("POST", "/sandboxes/{id}/volumes/snapshot"),

	/* volume-files */
	LATER("PUT", "/volumes/{volume_id}/files/raw"),
	LATER("GET", "/volumes/{volume_id}/files/raw"),
	LATER("GET", "/volumes/{volume_id}/files/list"),
	LATER("GET", "/volumes/{volume_id}/files/info"),
	LATER("GET", "/volumes/{volume_id}/files/exists"),
	LATER("DELETE", "/volumes/{volume_id}/files"),
	LATER("PATCH", "/volumes/{volume_id}/files"),
	LATER("POST", "/volumes/{volume_id}/files/mkdir"),

	/* volume-locks */
	LATER("POST", "/volumes/{volume_id}/locks"),
	LATER("DELETE", "/volumes/{volume_id}/locks"),
	LATER("POST", "/volumes/{volume_id}/locks/renew"),
	LATER("GET", "/volumes/{volume_id}/locks"),

	/* vault */
	LATER("GET", "/teams"),
	LATER("POST", "/teams"),
	LATER("GET", "/teams/{team_id}/environments"),
	LATER("POST", "/teams/{team_id}/environments"),
	LATER("POST", "/teams/{team_id}/vault/secrets"),
	LATER("GET", "/teams/{team_id}/vault/secrets"),
	LATER("DELETE", "/teams/{team_id}/vault/secrets/{secret_id}"),
	LATER("POST", "/teams/{team_id}/vault/secrets/{secret_id}/rotate"),
	LATER("POST", "/teams/{team_id}/vault/secrets/{secret_id}/scopes"),
	LATER("GET", "/vault/presets"),

	/* governance */
	LATER("GET", "/governance/packs"),
	LATER("GET", "/governance/packs/{name}"),

	/* account */
	LATER("GET", "/auth/me"),
	LATER("GET", "/accounts/{owner_id}"),
	LATER("GET", "/accounts/{owner_id}/wallet"),
	LATER("GET", "/accounts/{owner_id}/usage"),
	LATER("GET", "/accounts/{owner_id}/usage/daily"),
	LATER("GET", "/accounts/{owner_id}/deposits"),
	LATER("GET", "/accounts/{owner_id}/overview"),
	LATER("GET", "/accounts/{owner_id}/api-keys"),
	LATER("POST", "/accounts/{owner_id}/api-keys"),
	LATER("DELETE", "/accounts/{owner_id}/api-keys/{key_id}"),
	{ .method = NULL },
};
