/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files and ports: the real agent and the real session over a socketpair. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "harness.h"

struct answer {
	bool over;
	int error;
	struct agent_file_info info;
	char path[256];
};

static void on_file(void *userdata, int error, const struct agent_file_info *info)
{
	struct answer *an = userdata;

	an->over = true;
	an->error = error;
	if (info)
		an->info = *info;
	if (info && info->path)
		snprintf(an->path, sizeof(an->path), "%s", info->path);
}

static void on_done(void *userdata, int error)
{
	on_file(userdata, error, NULL);
}

#define ASK(rig, an, error_wanted, call) do {					\
	an = (struct answer) { 0 };						\
	cr_assert_eq(call, 0);							\
	RIG_WAIT(rig, an.over);							\
	cr_assert_eq(an.error, error_wanted, "%s: error %d", #call, an.error);	\
} while (0)

static void write_file(struct rig *rig, const char *path, uint64_t bytes)
{
	struct answer an = { 0 };
	struct sink out;

	sink_open(rig, &out, AGENT_STREAM_OUT, 1024 * 1024);
	cr_assert_eq(agent_file_write(rig->agent, path, NULL, 0640, out.stream, on_file, &an), 0);
	if (bytes > 0)
		sink_pump(&out, bytes);
	else
		agent_stream_finish(out.stream);
	RIG_WAIT(rig, an.over);
	cr_assert_eq(an.error, 0, "write: %d", an.error);
	cr_assert_eq(an.info.size, bytes);
	sink_done(&out);
}

static void read_file(struct rig *rig, const char *path, uint64_t bytes)
{
	struct answer an = { 0 };
	struct sink in;

	sink_open(rig, &in, AGENT_STREAM_IN, 1024 * 1024);
	cr_assert_eq(agent_file_read(rig->agent, path, NULL, in.stream, on_file, &an), 0);
	RIG_WAIT(rig, in.ended);
	cr_assert(an.over, "the reply comes before the bytes");
	cr_assert_eq(an.error, 0);
	cr_assert_eq(in.error, 0);
	cr_assert_eq(an.info.size, bytes);
	cr_assert_eq(in.len, bytes);
	for (uint64_t i = 0; i < bytes; i++)
		if (in.data[i] != pattern_byte(i))
			cr_assert_fail("byte %llu differs", (unsigned long long)i);
	sink_done(&in);
}

static char *in_dir(const struct rig *rig, const char *name)
{
	static char paths[8][160];
	static unsigned int next;
	char *p = paths[next++ % 8];

	snprintf(p, sizeof(paths[0]), "%s/%s", rig->dir, name);
	return p;
}

static void clean(struct rig *rig)
{
	struct answer an;

	ASK(rig, an, 0, agent_file_remove(rig->agent, rig->dir, on_done, &an));
	rig_free(rig);
}

Test(file, write_then_read, .timeout = 120)
{
	static const uint64_t sizes[] = { 0, 1, 32732, 32733, 65536, 65537, 8 * 1024 * 1024 + 3 };
	struct rig *rig = rig_new();
	struct stat st;

	rig_agent(rig);
	for (unsigned int i = 0; i < ELEMENTSOF(sizes); i++) {
		write_file(rig, in_dir(rig, "f"), sizes[i]);
		read_file(rig, in_dir(rig, "f"), sizes[i]);
	}
	cr_assert_eq(stat(in_dir(rig, "f"), &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0640);
	clean(rig);
}

Test(file, parents_are_made, .timeout = 60)
{
	struct rig *rig = rig_new();

	rig_agent(rig);
	write_file(rig, in_dir(rig, "a/b/c"), 10);
	read_file(rig, in_dir(rig, "a/b/c"), 10);
	clean(rig);
}

/* An upload that is given up leaves neither the file nor a temporary one. */
Test(file, upload_given_up, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct answer an = { 0 }, rm;
	struct sink out;

	rig_agent(rig);
	ASK(rig, rm, 0, agent_file_mkdir(rig->agent, in_dir(rig, "d"), NULL, on_file, &rm));
	sink_open(rig, &out, AGENT_STREAM_OUT, 65536);
	cr_assert_eq(
		agent_file_write(rig->agent, in_dir(rig, "d/f"), NULL, 0, out.stream, on_file, &an),
		0);
	cr_assert_eq(agent_stream_write(out.stream, "half", 4), 4);
	RIG_WAIT(rig, out.acked == 4);
	agent_stream_reset(out.stream, ECANCELED);
	RIG_WAIT(rig, an.over);
	cr_assert_eq(an.error, ECANCELED);
	sink_done(&out);
	cr_assert_eq(rmdir(in_dir(rig, "d")), 0, "something was left in it");
	clean(rig);
}

Test(file, errors, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct answer an;
	struct sink k;
	char deep[5000];

	rig_agent(rig);
	ASK(rig, an, ENOENT, agent_file_stat(rig->agent, in_dir(rig, "none"), on_file, &an));
	sink_open(rig, &k, AGENT_STREAM_IN, 65536);
	ASK(rig, an, ENOENT,
	    agent_file_read(rig->agent, in_dir(rig, "none"), NULL, k.stream, on_file, &an));
	cr_assert(!k.ended);
	sink_done(&k);
	sink_open(rig, &k, AGENT_STREAM_IN, 65536);
	ASK(rig, an, EISDIR, agent_file_read(rig->agent, rig->dir, NULL, k.stream, on_file, &an));
	sink_done(&k);
	sink_open(rig, &k, AGENT_STREAM_OUT, 65536);
	an = (struct answer) { 0 };
	cr_assert_eq(agent_file_write(rig->agent, rig->dir, NULL, 0, k.stream, on_file, &an), 0);
	agent_stream_finish(k.stream);
	RIG_WAIT(rig, an.over);
	cr_assert_eq(an.error, EISDIR);
	sink_done(&k);
	memset(deep, 'x', sizeof(deep) - 1);
	deep[0] = '/';
	deep[sizeof(deep) - 1] = 0;
	cr_assert_eq(agent_file_stat(rig->agent, deep, on_file, &an), 0);
	RIG_WAIT(rig, an.error == ENAMETOOLONG);
	rig_settle(rig);
	cr_assert_eq(rig->losts, 0);
	clean(rig);
}

Test(file, stat_mkdir_rename_remove, .timeout = 60)
{
	struct rig *rig = rig_new();
	struct answer an;

	rig_agent(rig);
	ASK(rig, an, 0, agent_file_mkdir(rig->agent, in_dir(rig, "x/y"), NULL, on_file, &an));
	cr_assert(an.info.created);
	ASK(rig, an, 0, agent_file_mkdir(rig->agent, in_dir(rig, "x/y"), NULL, on_file, &an));
	cr_assert(!an.info.created);
	write_file(rig, in_dir(rig, "x/f"), 99);
	ASK(rig, an, 0, agent_file_stat(rig->agent, in_dir(rig, "x/f"), on_file, &an));
	cr_assert_eq(an.info.type, DCLW_FT_FILE);
	cr_assert_eq(an.info.size, 99);
	cr_assert_eq(an.info.mode & 0777, 0640);
	cr_assert(an.info.mtime_nsec > 0);
	cr_assert_str_eq(an.path, in_dir(rig, "x/f"));
	ASK(rig, an, 0,
	    agent_file_rename(rig->agent, in_dir(rig, "x/f"), in_dir(rig, "new/g"), NULL, on_file,
			      &an));
	cr_assert_str_eq(an.path, in_dir(rig, "new/g"));
	ASK(rig, an, ENOENT, agent_file_stat(rig->agent, in_dir(rig, "x/f"), on_file, &an));
	ASK(rig, an, 0, agent_file_remove(rig->agent, in_dir(rig, "x"), on_done, &an));
	ASK(rig, an, ENOENT, agent_file_stat(rig->agent, in_dir(rig, "x/y"), on_file, &an));
	ASK(rig, an, 0, agent_file_remove(rig->agent, in_dir(rig, "x"), on_done, &an));
	clean(rig);
}

static unsigned int count_entries(const struct sink *in, const char *find,
				  struct agent_file_info *ret)
{
	struct agent_file_info info;
	const uint8_t *pos = in->data;
	size_t len = in->len;
	unsigned int n = 0;
	char path[256];
	int r;

	while ((r = agent_file_entry_next(&pos, &len, &info, path, sizeof(path))) > 0) {
		n++;
		if (strcmp(path, find) == 0)
			*ret = info;
	}
	cr_assert_eq(r, 0);
	return n;
}

Test(file, list, .timeout = 60)
{
	struct agent_file_info info = { 0 };
	struct rig *rig = rig_new();
	struct answer an;
	struct sink in;
	char name[32];

	rig_agent(rig);
	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "many/file-%d", i);
		if (i == 0)
			ASK(rig, an, 0,
			    agent_file_mkdir(rig->agent, in_dir(rig, "many"), NULL, on_file, &an));
		close(open(in_dir(rig, name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	}
	write_file(rig, in_dir(rig, "many/sub/deep"), 5);
	sink_open(rig, &in, AGENT_STREAM_IN, 65536);
	ASK(rig, an, 0,
	    agent_file_list(rig->agent, in_dir(rig, "many"), 1, in.stream, on_done, &an));
	RIG_WAIT(rig, in.ended);
	cr_assert_eq(count_entries(&in, in_dir(rig, "many/sub"), &info), 1501);
	cr_assert_eq(info.type, DCLW_FT_DIR);
	cr_assert_eq(agent_file_entry_size(in.data, 4), 0);
	cr_assert(agent_file_entry_size(in.data, in.len) > 8);
	sink_done(&in);
	sink_open(rig, &in, AGENT_STREAM_IN, 65536);
	ASK(rig, an, 0,
	    agent_file_list(rig->agent, in_dir(rig, "many"), 2, in.stream, on_done, &an));
	RIG_WAIT(rig, in.ended);
	cr_assert_eq(count_entries(&in, in_dir(rig, "many/sub/deep"), &info), 1502);
	cr_assert_eq(info.size, 5);
	sink_done(&in);
	clean(rig);
}

Test(file, watch, .timeout = 60)
{
	struct agent_file_info info = { 0 };
	struct rig *rig = rig_new();
	struct answer an;
	struct sink in;

	rig_agent(rig);
	ASK(rig, an, 0, agent_file_mkdir(rig->agent, in_dir(rig, "w"), NULL, on_file, &an));
	sink_open(rig, &in, AGENT_STREAM_IN, 65536);
	ASK(rig, an, 0,
	    agent_file_watch(rig->agent, in_dir(rig, "w"), true, in.stream, on_done, &an));
	close(open(in_dir(rig, "w/new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	RIG_WAIT(rig, in.len > 0);
	cr_assert(count_entries(&in, in_dir(rig, "w/new"), &info) >= 1);
	cr_assert(info.change == DCLW_CHANGE_CREATE || info.change == DCLW_CHANGE_MODIFY);
	sink_done(&in);
	clean(rig);
}

/* A TCP server on the loopback, reached through the channel; both directions end by themselves. */
Test(port, connect, .timeout = 60)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	struct rig *rig = rig_new();
	struct answer an;
	struct sink in, out;
	char buf[16];
	int srv, con;

	rig_agent(rig);
	srv = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(srv, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(srv, 1), 0);
	getsockname(srv, (struct sockaddr *)&sa, &len);
	sink_open(rig, &in, AGENT_STREAM_IN, 65536);
	sink_open(rig, &out, AGENT_STREAM_OUT, 65536);
	ASK(rig, an, 0,
	    agent_connect_port(rig->agent, ntohs(sa.sin_port), in.stream, out.stream, on_done,
			       &an));
	con = accept(srv, NULL, NULL);
	cr_assert_eq(agent_stream_write(out.stream, "ping", 4), 4);
	agent_stream_finish(out.stream);
	rig_settle(rig);
	cr_assert_eq(recv(con, buf, sizeof(buf), MSG_WAITALL), 4);
	cr_assert_eq(send(con, "pong", 4, 0), 4);
	close(con);
	RIG_WAIT(rig, in.ended);
	cr_assert_eq(in.len, 4);
	sink_done(&in);
	sink_done(&out);
	close(srv);
	sink_open(rig, &in, AGENT_STREAM_IN, 65536);
	sink_open(rig, &out, AGENT_STREAM_OUT, 65536);
	ASK(rig, an, ECONNREFUSED,
	    agent_connect_port(rig->agent, ntohs(sa.sin_port), in.stream, out.stream, on_done,
			       &an));
	sink_done(&in);
	sink_done(&out);
	clean(rig);
}

/* Bytes sent behind the request arrive, whoever is faster; and who loses interest closes the connection inside. */
Test(port, early_bytes_and_leaving, .timeout = 60)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	struct rig *rig = rig_new();
	struct answer an = { 0 };
	struct sink in, out;
	char buf[16];
	int srv, con;

	rig_agent(rig);
	srv = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(srv, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(srv, 1), 0);
	getsockname(srv, (struct sockaddr *)&sa, &len);
	sink_open(rig, &in, AGENT_STREAM_IN, 65536);
	sink_open(rig, &out, AGENT_STREAM_OUT, 65536);
	cr_assert_eq(agent_connect_port(rig->agent, ntohs(sa.sin_port), in.stream, out.stream, on_done, &an), 0);
	cr_assert_eq(agent_stream_write(out.stream, "early", 5), 5);
	RIG_WAIT(rig, an.over);
	cr_assert_eq(an.error, 0);
	con = accept(srv, NULL, NULL);
	rig_settle(rig);
	cr_assert_eq(recv(con, buf, 5, MSG_WAITALL), 5);
	cr_assert_eq(memcmp(buf, "early", 5), 0);
	/* In the order that leaves nobody to write to first */
	sink_done(&in);
	sink_done(&out);
	rig_settle(rig);
	cr_assert_leq(recv(con, buf, 1, 0), 0);
	close(con);
	close(srv);
	clean(rig);
}
