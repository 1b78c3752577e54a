/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Growing buffers and their cap, string arrays, intrusive lists. */
#include "util-test.h"
#include "util/list.h"
#include "util/str.h"

Test(buf, grows_and_terminates)
{
	_cleanup_buf_ struct buf b = BUF_INIT(100000);

	for (unsigned i = 0; i < 10000; i++) {
		cr_assert_eq(buf_append(&b, "0123456789", 10), 0);
		cr_assert_eq(b.len, 10 * (i + 1));
		cr_assert_eq(b.data[b.len], '\0');
	}
	for (size_t i = 0; i < b.len; i++)
		cr_assert_eq(b.data[i], '0' + (int)(i % 10));
	cr_assert_leq(b.size, b.max + 1);
}

Test(buf, cap_is_exact_and_all_or_nothing)
{
	_cleanup_buf_ struct buf b = BUF_INIT(5);

	cr_assert_eq(buf_append(&b, "abc", 3), 0);
	cr_assert_eq(buf_append(&b, "def", 3), -ENOBUFS);
	cr_assert_eq(buf_puts(&b, "defg"), -ENOBUFS);
	cr_assert_eq(buf_printf(&b, "%d", 123), -ENOBUFS);
	cr_assert_eq(b.len, 3);
	cr_assert_str_eq(b.data, "abc");
	cr_assert_eq(buf_append(&b, "de", 2), 0);
	cr_assert_str_eq(b.data, "abcde");
	cr_assert_eq(buf_append(&b, "", 0), 0);
	cr_assert_eq(buf_append(&b, "f", 1), -ENOBUFS);
	cr_assert_eq(buf_append(&b, "f", SIZE_MAX), -ENOBUFS);
	cr_assert_str_eq(b.data, "abcde");
}

Test(buf, without_cap_takes_nothing)
{
	_cleanup_buf_ struct buf b = { 0 };

	cr_assert_eq(buf_append(&b, "a", 1), -ENOBUFS);
	cr_assert_eq(buf_append(&b, NULL, 0), 0);
	cr_assert_str_eq(b.data, "");
}

Test(buf, unlimited_cap_does_not_overflow)
{
	_cleanup_buf_ struct buf b = BUF_INIT(SIZE_MAX);

	cr_assert_eq(buf_append(&b, "a", 1), 0);
	cr_assert_lt(buf_append(&b, "a", SIZE_MAX - 1), 0);
	cr_assert_str_eq(b.data, "a");
}

Test(buf, prints)
{
	_cleanup_buf_ struct buf b = BUF_INIT(1000);

	cr_assert_eq(buf_printf(&b, "%s=%d", "key", 5), 0);
	cr_assert_eq(buf_printf(&b, "%300s", "x"), 0);
	cr_assert_eq(b.len, 305);
	cr_assert_eq(memcmp(b.data, "key=5    ", 9), 0);
	cr_assert_eq(b.data[304], 'x');
}

Test(buf, take_leaves_an_empty_buffer_with_its_cap)
{
	struct buf b = BUF_INIT(4);
	char *s;

	s = buf_take(&b);
	cr_assert_str_eq(s, "");
	free(s);
	cr_assert_eq(buf_puts(&b, "four"), 0);
	s = buf_take(&b);
	cr_assert_str_eq(s, "four");
	free(s);
	cr_assert_null(b.data);
	cr_assert_eq(buf_puts(&b, "five5"), -ENOBUFS);
	cr_assert_eq(buf_puts(&b, "six"), 0);
	cr_assert_str_eq(b.data, "six");
	buf_done(&b);
	buf_done(&b);
	test_leaks();
}

Test(strv, pushes_copies)
{
	_cleanup_strv_ char **v = NULL;
	char text[8] = "one";

	cr_assert_eq(strv_len(v), 0);
	cr_assert_eq(strv_push(&v, text), 0);
	memcpy(text, "two", 4);
	cr_assert_eq(strv_push(&v, text), 0);
	cr_assert_eq(strv_len(v), 2);
	cr_assert_str_eq(v[0], "one");
	cr_assert_str_eq(v[1], "two");
	cr_assert_null(v[2]);
	strv_free(NULL);
}

struct item {
	int value;
	struct list link;
};

static int sum_and_unlink(struct list *head, int unlink)
{
	struct item *it;
	int sum = 0;

	list_foreach (head, it, struct item, link) {
		sum = sum * 10 + it->value;
		if (it->value == unlink) {
			list_unlink(&it->link);
			it->value = -1;
		}
	}
	return sum;
}

Test(list, keeps_order_and_survives_unlinking)
{
	struct list head = LIST_INIT(head);
	struct item a = { .value = 1 }, b = { .value = 2 }, c = { .value = 3 };

	cr_assert(list_empty(&head));
	cr_assert_null(list_first(&head, struct item, link));
	list_append(&head, &b.link);
	list_append(&head, &c.link);
	list_prepend(&head, &a.link);
	cr_assert_eq(sum_and_unlink(&head, 2), 123);
	cr_assert_eq(sum_and_unlink(&head, 1), 13);
	cr_assert_eq(list_first(&head, struct item, link), &c);
	list_unlink(&c.link);
	list_unlink(&c.link); /* an unlinked node may be unlinked again */
	cr_assert(list_empty(&head));
}
