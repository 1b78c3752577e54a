/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virt/domxml: golden files, escaping, limits. That libvirt accepts the result: test-domxml-libvirtd.c. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "lib/golden.h"
#include "util/macro.h"
#include "virt/domxml.h"

static struct dom_spec example(void)
{
	return (struct dom_spec) {
		.name = "sbx-0123456789",
		.uuid = "7f1c2a52-6d3b-4a52-9d0e-3c1f2b9a8d01",
		.emulator = "/usr/bin/qemu-system-x86_64",
		.vcpus = 2,
		.memory_bytes = 512u << 20,
		.kernel = "/var/lib/declaw/boot/vmlinuz",
		.initramfs = "/var/lib/declaw/boot/initramfs",
		.cmdline = "console=ttyS0 quiet",
		.disk = "/var/lib/declaw/sandboxes/sbx-0123456789/disk.qcow2",
		.backing = "/var/lib/declaw/templates/base/rootfs.ext4",
		.tap = "dcl0123456789",
		.mac = "02:40:bf:14:df:8c",
		.agent_socket = "/run/declaw/vm/sbx-0123456789/agent.sock",
		.console_socket = "/run/declaw/vm/sbx-0123456789/console.sock",
		.monitor_socket = "/run/declaw/vm/sbx-0123456789/qmp.sock",
	};
}

Test(domxml, tcg)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = domxml_format(&s);

	golden_check("domain-tcg.xml", xml);
}

Test(domxml, kvm)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = NULL;

	s.kvm = true;
	xml = domxml_format(&s);
	golden_check("domain-kvm.xml", xml);
}

/* The accelerator's probe: a guest that only has to say hello. */
Test(domxml, probe)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = NULL;

	s.kvm = s.no_disk = s.no_net = true;
	s.disk = s.backing = s.tap = s.mac = s.monitor_socket = NULL;
	xml = domxml_format(&s);
	golden_check("domain-probe.xml", xml);
}

static const char frozen[] = "/var/lib/declaw/memory/0123/disk.qcow2", ram[] = "/var/lib/declaw/memory/0123/ram";

static char *const layers[] = { (char *)"/sbx-0123456789/disk-1.qcow2", (char *)"/sbx-0123456789/disk.qcow2", NULL };

/* A clone of a user's snapshot, whose disk is several layers; and what such a snapshot is copied into. */
Test(domxml, memory_clone_of_layers)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = NULL;

	s.memory = DOM_MEMORY_CLONE;
	s.memory_file = "/sbx-0123456789/ram";
	s.layers = layers;
	s.frozen = "/var/lib/declaw/memory/0123/disk.qcow2";
	xml = domxml_format(&s);
	golden_check("domain-layers.xml", xml);
}

Test(domxml, memory_receiver)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = NULL;

	s.memory = DOM_MEMORY_RECEIVER;
	s.memory_file = "/snap-0123456789/ram";
	xml = domxml_format(&s);
	cr_assert(strstr(xml, "share=on") && strstr(xml, "<qemu:arg value='defer'/>"));
}

/* What clones are made of: its memory is a file. */
Test(domxml, memory_template)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = NULL;

	s.memory = DOM_MEMORY_TEMPLATE;
	s.memory_file = ram;
	s.disk = frozen;
	xml = domxml_format(&s);
	golden_check("domain-template.xml", xml);
}

Test(domxml, memory_clone)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = NULL;

	s.memory = DOM_MEMORY_CLONE;
	s.memory_file = ram;
	s.frozen = frozen;
	xml = domxml_format(&s);
	golden_check("domain-clone.xml", xml);
}

/* From an image of libvirt's: no file, no waiting, the same name. */
Test(domxml, memory_restored)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = NULL;

	s.memory = DOM_MEMORY_RESTORED;
	s.memory_file = ram;
	s.frozen = frozen;
	xml = domxml_format(&s);
	cr_assert_not_null(strstr(xml, "<qemu:arg value='memory-backend-ram,id=declaw-ram,size=536870912'/>"));
	cr_assert_null(strstr(xml, "-incoming"));
	cr_assert_null(strstr(xml, ram));
	cr_assert_not_null(strstr(xml, frozen));
}

Test(domxml, escapes)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = NULL;

	s.name = "a<b>&'\"\n%s";
	s.kernel = "/x'/><evil/>";
	xml = domxml_format(&s);
	cr_assert_not_null(strstr(xml, "<name>a&lt;b&gt;&amp;&apos;&quot;?%s</name>"));
	cr_assert_not_null(strstr(xml, "<kernel>/x&apos;/&gt;&lt;evil/&gt;</kernel>"));
	cr_assert_null(strstr(xml, "<evil"));
}

/* Every device names its bus: libvirt would look for PCI otherwise. */
Test(domxml, every_device_is_mmio)
{
	struct dom_spec s = example();
	_cleanup_free_ char *xml = domxml_format(&s);
	int n = 0;

	for (const char *p = xml; (p = strstr(p, "<address type='virtio-mmio'/>")); p++)
		n++;
	cr_assert_eq(n, 3, "disk, net, serial controller: %d", n);
}

Test(domxml, too_long_is_refused)
{
	struct dom_spec s = example();
	_cleanup_free_ char *huge = malloc(128 * 1024);

	memset(huge, 'x', 128 * 1024 - 1);
	huge[128 * 1024 - 1] = '\0';
	s.cmdline = huge;
	cr_assert_null(domxml_format(&s));
	cr_assert_null(domxml_cmdline(true, 0, huge));
}

#define BASE "console=ttyS0 quiet panic=-1 cryptomgr.notests"
#define TCG " no_timer_check noreplace-smp mitigations=off init_on_alloc=0 norandmaps"

Test(domxml, cmdline)
{
	static const struct {
		bool kvm;
		unsigned int khz;
		const char *extra, *want;
	} v[] = {
		{ true, 2000000, NULL, BASE },
		{ true, 2000000, "a=b", BASE " a=b" },
		{ false, 2000000, NULL, BASE TCG " tsc=reliable tsc_early_khz=2000000 lpj=8000000" },
		{ false, 4294967295u, "x", BASE TCG " tsc=reliable tsc_early_khz=4294967295 lpj=17179869180 x" },
		{ false, 0, "", BASE TCG },
	};

	for (size_t i = 0; i < ELEMENTSOF(v); i++) {
		_cleanup_free_ char *s = domxml_cmdline(v[i].kvm, v[i].khz, v[i].extra);

		cr_assert_str_eq(s, v[i].want);
	}
}
