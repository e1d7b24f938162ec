/* One C function for each static inline that nfv calls, and the log stream. No logic. */
#define _GNU_SOURCE
#include <stdio.h>
#include "wrapper.h"

#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>
#include <rte_cycles.h>

uint16_t nfv_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, packets, n);
}

uint16_t nfv_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, packets, n);
}

struct rte_mbuf *nfv_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int nfv_mbuf_linearize(struct rte_mbuf *packet)
{
	return rte_pktmbuf_linearize(packet);
}

char *nfv_mbuf_append(struct rte_mbuf *packet, uint16_t bytes)
{
	return rte_pktmbuf_append(packet, bytes);
}

char *nfv_mbuf_prepend(struct rte_mbuf *packet, uint16_t bytes)
{
	return rte_pktmbuf_prepend(packet, bytes);
}

int nfv_mbuf_trim(struct rte_mbuf *packet, uint16_t bytes)
{
	return rte_pktmbuf_trim(packet, bytes);
}

void nfv_mbuf_free(struct rte_mbuf *packet)
{
	rte_pktmbuf_free(packet);
}

void nfv_mbuf_refer(struct rte_mbuf *packet)
{
	rte_mbuf_refcnt_update(packet, 1);
}

struct rte_mempool *nfv_mbuf_pool(const struct rte_mbuf *packet)
{
	return packet->pool;
}

unsigned nfv_ring_push(struct rte_ring *ring, struct rte_mbuf **packets, unsigned n)
{
	return rte_ring_sp_enqueue_burst(ring, (void **)packets, n, NULL);
}

unsigned nfv_ring_pop(struct rte_ring *ring, struct rte_mbuf **packets, unsigned n)
{
	return rte_ring_dequeue_burst(ring, (void **)packets, n, NULL);
}

uint64_t nfv_cycles(void)
{
	return rte_get_tsc_cycles();
}

uint64_t nfv_cycles_per_second(void)
{
	return rte_get_tsc_hz();
}

unsigned nfv_lcore_id(void)
{
	return rte_lcore_id();
}

int nfv_errno(void)
{
	return rte_errno;
}

struct rte_fib *nfv_fib4_create(const char *name, int socket, uint32_t max_routes, uint32_t tbl8, uint64_t default_hop)
{
	struct rte_fib_conf conf = { .type = RTE_FIB_DIR24_8, .default_nh = default_hop, .max_routes = (int)max_routes };

	conf.dir24_8.nh_sz = RTE_FIB_DIR24_8_4B;
	conf.dir24_8.num_tbl8 = tbl8;
	return rte_fib_create(name, socket, &conf);
}

int nfv_fib4_add(struct rte_fib *fib, uint32_t prefix, uint8_t depth, uint64_t hop)
{
	return rte_fib_add(fib, prefix, depth, hop);
}

int nfv_fib4_delete(struct rte_fib *fib, uint32_t prefix, uint8_t depth)
{
	return rte_fib_delete(fib, prefix, depth);
}

int nfv_fib4_lookup(struct rte_fib *fib, const uint32_t *addresses, uint64_t *hops, uint32_t n)
{
	return rte_fib_lookup_bulk(fib, (uint32_t *)(uintptr_t)addresses, hops, (int)n);
}

struct rte_fib6 *nfv_fib6_create(const char *name, int socket, uint32_t max_routes, uint32_t tbl8, uint64_t default_hop)
{
	struct rte_fib6_conf conf = { .type = RTE_FIB6_TRIE, .default_nh = default_hop, .max_routes = (int)max_routes };

	conf.trie.nh_sz = RTE_FIB6_TRIE_4B;
	conf.trie.num_tbl8 = tbl8;
	return rte_fib6_create(name, socket, &conf);
}

int nfv_fib6_add(struct rte_fib6 *fib, const uint8_t *prefix, uint8_t depth, uint64_t hop)
{
	return rte_fib6_add(fib, (void *)(uintptr_t)prefix, depth, hop);
}

int nfv_fib6_delete(struct rte_fib6 *fib, const uint8_t *prefix, uint8_t depth)
{
	return rte_fib6_delete(fib, (void *)(uintptr_t)prefix, depth);
}

int nfv_fib6_lookup(struct rte_fib6 *fib, const uint8_t *addresses, uint64_t *hops, uint32_t n)
{
	return rte_fib6_lookup_bulk(fib, (void *)(uintptr_t)addresses, hops, (int)n);
}

int nfv_link(uint16_t port, uint32_t *speed, int *up)
{
	struct rte_eth_link link = { 0 };
	int failed = rte_eth_link_get_nowait(port, &link);

	*speed = link.link_speed;
	*up = link.link_status;
	return failed;
}

static ssize_t log_write(void *cookie, const char *text, size_t bytes)
{
	((nfv_log_sink)cookie)((uint32_t)rte_log_cur_msg_loglevel(), text, bytes);
	return (ssize_t)bytes;
}

int nfv_log_to(nfv_log_sink sink)
{
	cookie_io_functions_t io = { .write = log_write };
	FILE *stream = fopencookie((void *)sink, "w", io);

	if (stream == NULL)
		return -1;
	setvbuf(stream, NULL, _IOLBF, 0);
	return rte_openlog_stream(stream);
}

int nfv_eal_init(int argc, char **argv)
{
	int saved, null, result;

	/* Asked for help, EAL prints it and exits. */
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
			return rte_eal_init(argc, argv);
	/* At an option that it does not know it prints three pages of usage, and getopt a line; nfv says which option. */
	opterr = 0;
	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (saved >= 0 && null >= 0)
		dup2(null, STDOUT_FILENO);
	result = rte_eal_init(argc, argv);
	fflush(stdout);
	if (saved >= 0) {
		dup2(saved, STDOUT_FILENO);
		close(saved);
	}
	if (null >= 0)
		close(null);
	return result;
}
