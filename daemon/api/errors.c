/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one table from faults to what a user reads: status, machine code, a sentence that says what to do. "%s" in a
 * sentence is the detail (cut and escaped when it comes from a guest or from libvirt).
 */
#include <assert.h>
#include <string.h>

#include "api/api.h"
#include "util/log.h"

struct fault_row {
	int status;
	const char *code;
	const char *sentence;
};

static const struct fault_row rows[] = {
	[FAULT_NONE] = { 200, "ok", "" },
	[FAULT_BAD_JSON] = { 400, "invalid_json", "The body is not valid JSON: %s." },
	[FAULT_BAD_FIELD] = { 400, "invalid_field", "A field of the body cannot be used: %s." },
	[FAULT_MISSING_FIELD] = { 400, "missing_field", "The body lacks a field: %s." },
	[FAULT_RESOURCES_FIELD] = { 400, "resources_unsupported", "resources field is not supported; set resources at template level" },
	[FAULT_BAD_REQUEST] = { 400, "bad_request", "The request is malformed: %s." },
	[FAULT_BAD_QUERY] = { 400, "invalid_query", "A query parameter cannot be used: %s." },
	[FAULT_TOO_LARGE] = { 413, "too_large", "The request is too large: %s." },
	[FAULT_HEADERS_TOO_LARGE] = { 431, "headers_too_large", "The request's headers are too large; send fewer or shorter ones." },
	[FAULT_METHOD] = { 405, "method_not_allowed", "This route exists but not with that method." },
	[FAULT_UNAUTHORIZED] = { 401, "unauthorized", "unauthorized: missing or invalid API key" },
	[FAULT_ROUTE_UNKNOWN] = { 404, "route_unknown", "There is no such route; check method and path." },
	[FAULT_ROUTE_LATER] = { 404, "not_implemented_yet", "This version of declawd does not offer this route yet." },
	[FAULT_OPTION_LATER] = { 400, "not_implemented_yet", "This version of declawd does not offer this option yet: %s; leave it out." },
	[FAULT_BUSY] = { 429, "not_ready", "The appliance is not ready for this: %s; try again in a few seconds." },
	[FAULT_IDEM_IN_PROGRESS] = { 409, "idempotency_in_progress", "A creation with this Idempotency-Key is under way; ask again in a moment." },
	[FAULT_IDEM_REUSED] = { 422, "idempotency_key_reused", "This Idempotency-Key was used with another body; use a new one." },
	[FAULT_SANDBOX_UNKNOWN] = { 404, "sandbox_not_found", "There is no such sandbox; it was never created, or its record has expired." },
	[FAULT_SANDBOX_KILLED] = { 410, "sandbox_killed", "The sandbox has been killed; create a new one." },
	[FAULT_SANDBOX_STATE] = { 409, "sandbox_not_running", "The sandbox is %s; it must be running for this." },
	[FAULT_SANDBOX_PAUSED] = { 409, "sandbox_paused", "The sandbox is paused; resume it first." },
	[FAULT_PAUSE_FAILED] = { 409, "pause_failed", "The sandbox could not be paused and runs on: %s." },
	[FAULT_RESUME_FAILED] = { 409, "resume_failed", "The sandbox could not be resumed and stays paused: %s." },
	[FAULT_SNAPSHOT_UNKNOWN] = { 404, "snapshot_not_found", "There is no such snapshot; GET /snapshots lists yours." },
	[FAULT_SNAPSHOT_FAILED] = { 409, "snapshot_failed", "No snapshot was made and the sandbox runs on: %s." },
	[FAULT_SNAPSHOT_LIMIT] = { 403, "snapshot_limit", "You have as many snapshots as this host allows; delete one, or raise snapshots_max." },
	[FAULT_SNAPSHOT_STALE] = { 409, "snapshot_stale", "The snapshot was made with another QEMU, libvirt or processor than this host has now; it cannot be used." },
	[FAULT_TEMPLATE_UNKNOWN] = { 404, "template_not_found", "There is no template \"%s\"; GET /healthz lists the ones installed." },
	[FAULT_TEMPLATE_BROKEN] = { 409, "template_not_ready", "The template cannot be used: %s; build the images again." },
	[FAULT_LIMIT_SANDBOXES] = { 429, "too_many_sandboxes", "As many sandboxes run as this host allows; kill one or raise sandboxes_max." },
	[FAULT_QUEUE_FULL] = { 429, "queue_full", "As many creations wait as this host allows; try again in a few seconds." },
	[FAULT_NO_MEMORY] = { 429, "no_memory", "The host has no memory for this sandbox: %s; kill one, or try again later." },
	[FAULT_TIER_UNKNOWN] = { 403, "unknown_tier", "unknown tier: %s" },
	[FAULT_TIER_VCPUS] = { 403, "tier_vcpus", "vcpu limit exceeds tier allowance" },
	[FAULT_TIER_MEMORY] = { 403, "tier_memory", "memory limit exceeds tier allowance" },
	[FAULT_TIER_DISK] = { 403, "tier_disk", "disk limit exceeds tier allowance" },
	[FAULT_TIER_DURATION] = { 403, "tier_duration", "session duration exceeds tier limit" },
	[FAULT_TIER_SANDBOXES] = { 429, "tier_sandboxes", "concurrent sandbox limit reached for tier: %s" },
	[FAULT_TIER_RATE] = { 429, "tier_rate", "sandbox creation rate limit exceeded" },
	[FAULT_REQUEST_RATE] = { 429, "request_rate", "rate limit exceeded" },
	[FAULT_NO_ACCELERATOR] = { 409, "no_accelerator", "This host has neither KVM nor QEMU; install qemu-system-x86 and restart declawd." },
	[FAULT_NO_LIBVIRT] = { 409, "libvirt_unavailable", "libvirt cannot be reached; see: systemctl status declaw-libvirtd." },
	[FAULT_NO_SYSTEMD] = { 409, "systemd_unavailable", "systemd cannot be reached over the system bus, or refuses; see: journalctl -u declawd." },
	[FAULT_NO_FIREWALL] = { 409, "firewall_unavailable", "The sandbox's network rules could not be set, so it was not started; see: journalctl -u declawd." },
	[FAULT_NO_SPACE] = { 413, "no_space", "The host's disk is full; free space below the state directory and try again." },
	[FAULT_BOOT_TIMEOUT] = { 409, "boot_timeout", "The sandbox did not start in time and was removed; try again, and see: journalctl -u declawd." },
	[FAULT_START_FAILED] = { 409, "start_failed", "The sandbox could not be started and was removed: %s." },
	[FAULT_ENDED_MEANWHILE] = { 410, "sandbox_killed", "The sandbox was killed while this was under way." },
	[FAULT_PROC_UNKNOWN] = { 404, "process_not_found", "There is no such process in this sandbox." },
	[FAULT_PROC_ENDED] = { 409, "process_ended", "The process has ended or closed its standard input." },
	[FAULT_PROC_START] = { 400, "process_not_started", "The command could not be started: %s; check user and cwd." },
	[FAULT_PROC_LIMIT] = { 429, "too_many_processes", "The sandbox runs as many commands at once as it can; wait for one to end." },
	[FAULT_CMD_TIMEOUT] = { 408, "command_timeout", "The command did not end within its timeout of %s s and was killed." },
	[FAULT_AGENT_LOST] = { 409, "agent_lost", "The sandbox no longer answers; its guest crashed or was cut off." },
	[FAULT_STDIN_FULL] = { 429, "stdin_full", "The process does not read its standard input; wait until it does." },
	[FAULT_FILE_NOT_FOUND] = { 404, "file_not_found", "There is no such file or directory: %s." },
	[FAULT_FILE_IS_DIR] = { 400, "is_a_directory", "The path is a directory: %s." },
	[FAULT_FILE_NOT_DIR] = { 400, "not_a_directory", "A part of the path is not a directory: %s." },
	[FAULT_FILE_PERMISSION] = { 403, "permission_denied", "The guest refuses access to %s." },
	[FAULT_FILE_NAME] = { 400, "invalid_path", "The path cannot be used: %s." },
	[FAULT_FILE_LOOP] = { 400, "symlink_loop", "The path runs through a loop of symbolic links: %s." },
	[FAULT_FILE_NO_SPACE] = { 413, "guest_no_space", "The sandbox's disk is full: %s." },
	[FAULT_FILE_TOO_LARGE] = { 413, "file_too_large", "The file is too large: %s." },
	[FAULT_FILE_EXISTS] = { 409, "file_exists", "Something of that name is in the way: %s." },
	[FAULT_FILE_USER] = { 400, "unknown_user", "The sandbox has no such user: %s." },
	[FAULT_FILE_OTHER] = { 400, "file_error", "The file operation failed in the sandbox: %s." },
	/* Not 502: every client of the contract repeats requests that fail with 5xx, and this is nothing to repeat */
	[FAULT_PORT_UNREACHABLE] = { 424, "port_unreachable", "Nothing accepts connections on port %s of the sandbox's loopback; start a server there." },
	[FAULT_PORT_ANSWER] = { 424, "port_bad_answer", "The server in the sandbox cannot be understood: %s." },
	[FAULT_PORT_CLOSED] = { 403, "port_not_public", "This port cannot be reached from outside: %s." },
	[FAULT_INTERNAL] = { 500, "internal", "declawd failed on this request; the journal says more." },
};
static_assert(ELEMENTSOF(rows) == FAULT_MAX, "a row per fault");

const char *api_fault_code(enum fault fault)
{
	return rows[fault].code;
}

int api_fault_status(enum fault fault)
{
	return rows[fault].status;
}

char *api_fault_text(enum fault fault, const char *detail)
{
	const char *s = rows[fault].sentence, *place = strstr(s, "%s");
	_cleanup_free_ char *safe = NULL;

	if (!place)
		return strdup(s);
	if (!detail && place - s >= 2 && place[-2] == ':')
		return str_format("%.*s%s", (int)(place - s) - 2, s, place + 2);
	safe = str_escape(detail ?: "no detail", strlen(detail ?: "no detail"), 400);
	if (!safe)
		return NULL;
	/* Details are sentences of their own now and then: one full stop is enough */
	if (str_ends(safe, ".") && place[2] == '.')
		safe[strlen(safe) - 1] = '\0';
	return str_format("%.*s%s%s", (int)(place - s), s, safe, place + 2);
}

void api_fail(struct http_request *req, enum fault fault, const char *detail)
{
	_cleanup_free_ char *text = api_fault_text(fault, detail);
	json_object *o = json_object_new_object();

	if (o) {
		json_put_string(o, "message", text ?: "out of memory");
		json_put_string(o, "code", rows[fault].code);
	}
	if (fault == FAULT_INTERNAL)
		log_error("%s %s failed: %s", http_request_method(req), http_request_path(req), detail ?: "no detail");
	if (rows[fault].status == 429 || fault == FAULT_IDEM_IN_PROGRESS)
		http_reply_header(req, "Retry-After", "2");
	api_reply(req, rows[fault].status, o);
}

enum fault api_file_fault(int error)
{
	switch (error) {
	case ENOENT:
		return FAULT_FILE_NOT_FOUND;
	case EISDIR:
		return FAULT_FILE_IS_DIR;
	case ENOTDIR:
		return FAULT_FILE_NOT_DIR;
	case EACCES:
	case EPERM:
	case EROFS:
	case EBUSY:
		return FAULT_FILE_PERMISSION;
	case ENAMETOOLONG:
	case EINVAL:
		return FAULT_FILE_NAME;
	case ELOOP:
		return FAULT_FILE_LOOP;
	case ENOSPC:
	case EDQUOT:
		return FAULT_FILE_NO_SPACE;
	case EFBIG:
		return FAULT_FILE_TOO_LARGE;
	case EEXIST:
	case ENOTEMPTY:
		return FAULT_FILE_EXISTS;
	case ESRCH:
		return FAULT_FILE_USER;
	default:
		return error < 0 ? FAULT_AGENT_LOST : FAULT_FILE_OTHER;
	}
}

const char *api_file_detail(int error, const char *path)
{
	switch (error) {
	case ENOENT:
	case EISDIR:
	case ENOTDIR:
	case ELOOP:
	case EEXIST:
	case EACCES:
		return path;
	case ESRCH:
		return "check username";
	default:
		return error > 0 ? strerror(error) : path;
	}
}

enum fault api_agent_fault(int error)
{
	switch (-error) {
	case EAGAIN:
	case EMFILE:
	case ENOBUFS:
		return FAULT_PROC_LIMIT;
	case ECONNRESET:
	case ENOTCONN:
		return FAULT_AGENT_LOST;
	default:
		return FAULT_INTERNAL;
	}
}
