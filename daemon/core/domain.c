/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/domain.h"

#include "core/manager.h"
#include "core/memsnap.h"
#include "core/snapshot.h"

char *domain_cmdline(const struct manager *m, unsigned int tsc_khz)
{
	/* where nobody says no, the guest's own patience decides: two tries, ETIMEDOUT after three seconds */
	const char *extra = m->settings.blocked == BLOCKED_DROP ? "sysctl.net.ipv4.tcp_syn_retries=1" : NULL;

	return domxml_cmdline(accel_is_kvm(&m->accel), tsc_khz, extra);
}

void domain_layer_name(unsigned int layer, char ret[DOMAIN_LAYER_MAX])
{
	if (layer == 0)
		snprintf(ret, DOMAIN_LAYER_MAX, "disk.qcow2");
	else
		snprintf(ret, DOMAIN_LAYER_MAX, "disk-%u.qcow2", layer);
}

char *domain_layer(const struct sandbox *sb, unsigned int layer)
{
	char name[DOMAIN_LAYER_MAX];

	domain_layer_name(layer, name);
	return sandbox_path(sb, name);
}

char *domain_disk(const struct sandbox *sb)
{
	return sb->role == SANDBOX_FOR_SNAPSHOT ? memsnap_path(sb->manager, sb->snapshot, MEMSNAP_DISK) :
						  domain_layer(sb, sb->layers);
}

char *domain_monitor(const struct sandbox *sb)
{
	return sandbox_run_path(sb, "qmp.sock");
}

char *domain_ram(const struct sandbox *sb)
{
	if (sb->role == SANDBOX_FOR_COPY)
		return snapshot_path(sb->manager, sb->from, MEMSNAP_RAM);
	return *sb->from ? sandbox_path(sb, MEMSNAP_RAM) : memsnap_path(sb->manager, sb->snapshot, MEMSNAP_RAM);
}

/* Those below the one it writes, the nearest first */
static char **layers_below(const struct sandbox *sb)
{
	char **v = calloc((size_t)sb->layers + 1, sizeof(*v));

	for (unsigned int i = 0; v && i < sb->layers; i++) {
		v[i] = domain_layer(sb, sb->layers - 1 - i);
		if (!v[i]) {
			strv_free(v);
			v = NULL;
		}
	}
	return v;
}

char *domain_xml(const struct sandbox *sb, enum dom_memory memory)
{
	const struct manager *m = sb->manager;
	const bool clone = *sb->snapshot && sb->role != SANDBOX_FOR_SNAPSHOT;
	_cleanup_free_ char *cmdline = domain_cmdline(m, m->tsc_khz), *disk = domain_disk(sb), *socket = sandbox_run_path(sb, "agent.sock");
	_cleanup_free_ char *console = sandbox_run_path(sb, "console.sock"), *monitor = domain_monitor(sb);
	_cleanup_free_ char *frozen = clone ? memsnap_path(m, sb->snapshot, MEMSNAP_DISK) : NULL, *ram = domain_ram(sb);
	_cleanup_strv_ char **layers = layers_below(sb);
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
		.layers = layers,
		.frozen = frozen,
		.backing = sb->image,
		.memory = memory,
		.memory_file = ram,
		.tap = sb->tap,
		.mac = sb->mac,
		.agent_socket = socket,
		.console_socket = console,
		.monitor_socket = monitor,
	};

	if (!sb->image || !cmdline || !disk || !socket || !console || !monitor || (clone && !frozen) || !ram || !layers)
		return NULL;
	return domxml_format(&spec);
}
