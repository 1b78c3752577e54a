/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/domain.h"

#include "core/manager.h"
#include "core/memsnap.h"

char *domain_cmdline(const struct manager *m, unsigned int tsc_khz)
{
	/* where nobody says no, the guest's own patience decides: two tries, ETIMEDOUT after three seconds */
	const char *extra = m->settings.blocked == BLOCKED_DROP ? "sysctl.net.ipv4.tcp_syn_retries=1" : NULL;

	return domxml_cmdline(accel_is_kvm(&m->accel), tsc_khz, extra);
}

char *domain_disk(const struct sandbox *sb)
{
	return sb->role == SANDBOX_FOR_SNAPSHOT ? memsnap_path(sb->manager, sb->snapshot, MEMSNAP_DISK) :
						  sandbox_path(sb, "disk.qcow2");
}

char *domain_xml(const struct sandbox *sb, enum dom_memory memory)
{
	const struct manager *m = sb->manager;
	const bool clone = *sb->snapshot && sb->role != SANDBOX_FOR_SNAPSHOT;
	_cleanup_free_ char *cmdline = domain_cmdline(m, m->tsc_khz), *disk = domain_disk(sb), *socket = sandbox_run_path(sb, "agent.sock");
	_cleanup_free_ char *console = sandbox_run_path(sb, "console.sock");
	_cleanup_free_ char *frozen = clone ? memsnap_path(m, sb->snapshot, MEMSNAP_DISK) : NULL;
	_cleanup_free_ char *ram = *sb->snapshot ? memsnap_path(m, sb->snapshot, MEMSNAP_RAM) : NULL;
	const struct dom_spec spec = {
		.name = sb->id,
		.uuid = sb->uuid,
		.kvm = accel_is_kvm(&m->accel),
		.emulator = m->settings.emulator,
		.vcpus = (unsigned int)sb->vcpus,
		.memory_bytes = sb->memory_mb << 20,
		.kernel = m->templates.kernel,
		.initramfs = m->templates.initramfs,
		.cmdline = cmdline,
		.disk = disk,
		.frozen = frozen,
		.backing = sb->image,
		.memory = memory,
		.memory_file = ram,
		.tap = sb->tap,
		.mac = sb->mac,
		.agent_socket = socket,
		.console_socket = console,
	};

	if (!sb->image || !cmdline || !disk || !socket || !console || (clone && !frozen) || (*sb->snapshot && !ram))
		return NULL;
	return domxml_format(&spec);
}
