/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sandbox as libvirt XML: machine type microvm, nothing but virtio-mmio, nothing implicit.
 *
 * libvirt 9.0 accepts microvm when every device says virtio-mmio, there is no USB controller and no balloon; ACPI is
 * on because Debian's kernels find their devices through it. Each section is one function, in libvirt's order, so
 * that a clone's memory backend or arguments of QEMU's own can become sections of their own; the topology of devices
 * (their order here) must be the same for a template and its clones.
 *
 * on_poweroff, on_reboot and on_crash all destroy: a sandbox boots once. libvirt labels nothing (seclabel none) and
 * makes no tap: both belong to the daemon. The console is a socket, not a file, which a guest could fill without end:
 * QEMU drops what nobody reads. Disk errors are reported to the guest; with QEMU's default a full host disk would
 * freeze it without a word.
 */
#include <string.h>

#include "util/str.h"
#include "virt/domxml.h"

#define XML_MAX (64 * 1024)
#define CMDLINE_MAX 2048

#define MMIO "<address type='virtio-mmio'/>"

/* Text and attribute values alike. Control characters have no form in XML 1.0: '?' takes their place. */
static void put_escaped(struct buf *b, int *r, const char *s)
{
	for (; *s && *r == 0; s++) {
		switch (*s) {
		case '&':
			*r = buf_puts(b, "&amp;");
			break;
		case '<':
			*r = buf_puts(b, "&lt;");
			break;
		case '>':
			*r = buf_puts(b, "&gt;");
			break;
		case '\'':
			*r = buf_puts(b, "&apos;");
			break;
		case '"':
			*r = buf_puts(b, "&quot;");
			break;
		default:
			*r = (unsigned char)*s < 0x20 ? buf_puts(b, "?") : buf_append(b, s, 1);
			break;
		}
	}
}

/* Literal text up to a '%', which stands for the next argument, escaped. The first error stays in *r. */
static void put(struct buf *b, int *r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	while (*r == 0 && *format) {
		size_t n = strcspn(format, "%");

		*r = buf_append(b, format, n);
		format += n;
		if (*format == '%') {
			put_escaped(b, r, va_arg(ap, const char *));
			format++;
		}
	}
	va_end(ap);
}

static void put_number(struct buf *b, int *r, const char *before, uint64_t n, const char *after)
{
	if (*r == 0)
		*r = buf_printf(b, "%s%llu%s", before, (unsigned long long)n, after);
}

static void section_size(struct buf *b, int *r, const struct dom_spec *s)
{
	put(b, r, "  <name>%</name>\n  <uuid>%</uuid>\n", s->name, s->uuid);
	put_number(b, r, "  <memory unit='b'>", s->memory_bytes, "</memory>\n");
	put_number(b, r, "  <vcpu placement='static'>", s->vcpus, "</vcpu>\n");
}

static void section_boot(struct buf *b, int *r, const struct dom_spec *s)
{
	put(b, r,
	    "  <os>\n"
	    "    <type arch='x86_64' machine='microvm'>hvm</type>\n"
	    "    <kernel>%</kernel>\n"
	    "    <initrd>%</initrd>\n"
	    "    <cmdline>%</cmdline>\n"
	    "  </os>\n"
	    "  <features>\n"
	    "    <acpi/>\n"
	    "  </features>\n", s->kernel, s->initramfs, s->cmdline);
}

static void section_cpu(struct buf *b, int *r, const struct dom_spec *s)
{
	/*
	 * Under TCG "maximum" is all that QEMU can emulate; it is not tied to the host's model. But with erms a guest copies
	 * by `rep movsb`, which the emulator does byte by byte; without it by eight at a time, more than four times as fast.
	 */
	if (s->kvm)
		put(b, r, "  <cpu mode='host-passthrough' check='none'/>\n");
	else
		put(b, r, "  <cpu mode='maximum' check='none'>\n"
		    "    <feature policy='disable' name='erms'/>\n"
		    "  </cpu>\n");
	put(b, r,
	    "  <clock offset='utc'/>\n"
	    "  <on_poweroff>destroy</on_poweroff>\n"
	    "  <on_reboot>destroy</on_reboot>\n"
	    "  <on_crash>destroy</on_crash>\n");
}

static void backing_layer(struct buf *b, int *r, const char *path)
{
	put(b, r,
	    "      <backingStore type='file'>\n"
	    "        <format type='qcow2'/>\n"
	    "        <source file='%'/>\n", path);
}

static void backing_chain(struct buf *b, int *r, const struct dom_spec *s)
{
	size_t n = 0;

	for (; s->layers && s->layers[n]; n++)
		backing_layer(b, r, s->layers[n]);
	if (s->frozen)
		backing_layer(b, r, s->frozen);
	put(b, r,
	    "      <backingStore type='file'>\n"
	    "        <format type='raw'/>\n"
	    "        <source file='%'/>\n"
	    "        <backingStore/>\n"
	    "      </backingStore>\n", s->backing);
	for (n += s->frozen != NULL; n > 0; n--)
		put(b, r, "      </backingStore>\n");
}

static void device_disk(struct buf *b, int *r, const struct dom_spec *s)
{
	put(b, r,
	    "    <disk type='file' device='disk'>\n"
	    "      <driver name='qemu' type='qcow2' cache='writeback' error_policy='report' rerror_policy='report'"
	    " discard='unmap'/>\n"
	    "      <source file='%'/>\n", s->disk);
	backing_chain(b, r, s);
	put(b, r,
	    "      <target dev='vda' bus='virtio'/>\n"
	    "      " MMIO "\n"
	    "    </disk>\n");
}

static void device_net(struct buf *b, int *r, const struct dom_spec *s)
{
	put(b, r,
	    "    <interface type='ethernet'>\n"
	    "      <mac address='%'/>\n"
	    "      <target dev='%' managed='no'/>\n"
	    "      <model type='virtio'/>\n"
	    "      <driver name='qemu'/>\n"
	    "      " MMIO "\n"
	    "    </interface>\n", s->mac, s->tap);
}

static void device_agent(struct buf *b, int *r, const struct dom_spec *s)
{
	put(b, r,
	    "    <controller type='virtio-serial' index='0' ports='2'>\n"
	    "      " MMIO "\n"
	    "    </controller>\n"
	    "    <channel type='unix'>\n"
	    "      <source mode='bind' path='%'/>\n"
	    "      <target type='virtio' name='org.declaw.agent.0'/>\n"
	    "      <address type='virtio-serial' controller='0' bus='0' port='1'/>\n"
	    "    </channel>\n", s->agent_socket);
}

static void device_console(struct buf *b, int *r, const struct dom_spec *s)
{
	put(b, r,
	    "    <serial type='unix'>\n"
	    "      <source mode='bind' path='%'/>\n"
	    "      <target type='isa-serial' port='0'>\n"
	    "        <model name='isa-serial'/>\n"
	    "      </target>\n"
	    "    </serial>\n", s->console_socket);
}

static void section_devices(struct buf *b, int *r, const struct dom_spec *s)
{
	put(b, r, "  <devices>\n    <emulator>%</emulator>\n", s->emulator);
	if (!s->no_disk)
		device_disk(b, r, s);
	put(b, r, "    <controller type='usb' model='none'/>\n");
	if (!s->no_net)
		device_net(b, r, s);
	device_agent(b, r, s);
	device_console(b, r, s);
	put(b, r, "    <memballoon model='none'/>\n  </devices>\n");
}

/*
 * The last -machine wins over what libvirt says about the memory; its name is part of the device state, so all guests
 * have the same one: what is copied out of any can be cloned or restored.
 */
static void section_memory(struct buf *b, int *r, const struct dom_spec *s)
{
	const bool file = s->memory != DOM_MEMORY_RESTORED && s->memory != DOM_MEMORY_PLAIN;

	put(b, r, "    <qemu:arg value='-object'/>\n    <qemu:arg value='memory-backend-%,id=declaw-ram",
	    file ? "file" : "ram");
	if (file)
		put(b, r, ",mem-path=%,share=%", s->memory_file, s->memory == DOM_MEMORY_CLONE ? "off" : "on");
	put_number(b, r, ",size=", s->memory_bytes, "'/>\n");
	put(b, r, "    <qemu:arg value='-machine'/>\n    <qemu:arg value='memory-backend=declaw-ram'/>\n");
	if (s->memory == DOM_MEMORY_CLONE || s->memory == DOM_MEMORY_RECEIVER)
		put(b, r, "    <qemu:arg value='-incoming'/>\n    <qemu:arg value='defer'/>\n");
}

static void section_commandline(struct buf *b, int *r, const struct dom_spec *s)
{
	put(b, r, "  <qemu:commandline>\n");
	section_memory(b, r, s);
	if (s->monitor_socket)
		put(b, r, "    <qemu:arg value='-qmp'/>\n    <qemu:arg value='unix:%,server=on,wait=off'/>\n", s->monitor_socket);
	put(b, r, "  </qemu:commandline>\n");
}

/*
 * libvirt asks a new QEMU for every feature of its CPU, in some 400 round trips that are half of the time a start
 * takes; the answers are for migrating to other hosts. Without this capability it asks in three.
 */
static void section_qemu(struct buf *b, int *r)
{
	put(b, r,
	    "  <qemu:capabilities>\n"
	    "    <qemu:del capability='cpu-unavailable-features'/>\n"
	    "  </qemu:capabilities>\n");
}

char *domxml_format(const struct dom_spec *s)
{
	_cleanup_buf_ struct buf b = BUF_INIT(XML_MAX);
	int r = 0;

	put(&b, &r, "<domain type='%' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n",
	    s->kvm ? "kvm" : "qemu");
	section_size(&b, &r, s);
	section_boot(&b, &r, s);
	section_cpu(&b, &r, s);
	section_devices(&b, &r, s);
	put(&b, &r, "  <seclabel type='none'/>\n");
	section_commandline(&b, &r, s);
	section_qemu(&b, &r);
	put(&b, &r, "</domain>\n");
	return r < 0 ? NULL : buf_take(&b);
}

char *domxml_cmdline(bool kvm, unsigned int tsc_khz, const char *extra)
{
	_cleanup_buf_ struct buf b = BUF_INIT(CMDLINE_MAX);
	int r;

	/* The crypto self-tests cost more than half a second of an emulated boot and protect nobody here */
	r = buf_puts(&b, "console=ttyS0 quiet panic=-1 cryptomgr.notests");
	/*
	 * The stock kernel's TSC calibration hangs in most boots under TCG, so it is told the result. Debian kernels
	 * tick at 250 Hz: loops per jiffy = kHz * 1000 / 250. The rest is work that means nothing to an emulated
	 * processor (patching lock prefixes, mitigations of speculation) and was measured at a second per boot.
	 * An emulated TSC follows the host's clock, yet on a busy host the guest's watchdog finds it skewed against
	 * its own late ticks, and would count those instead: such a clock lost 92 s in 15 minutes.
	 * Code is translated for the address it runs at. With addresses of its own each new process is translated anew,
	 * all of its libraries included: bash takes 130 ms to start so, and 17 where the last one was. Root in the guest
	 * may turn kernel.randomize_va_space on again.
	 */
	if (r == 0 && !kvm)
		r = buf_puts(&b, " no_timer_check noreplace-smp mitigations=off init_on_alloc=0 norandmaps");
	if (r == 0 && !kvm && tsc_khz)
		r = buf_printf(&b, " tsc=reliable tsc_early_khz=%u lpj=%llu", tsc_khz, tsc_khz * 4ull);
	if (r == 0 && extra && *extra)
		r = buf_printf(&b, " %s", extra);
	return r < 0 ? NULL : buf_take(&b);
}
