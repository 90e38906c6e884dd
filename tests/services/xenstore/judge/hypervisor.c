/*
 * What xenstored asks of Xen, answered by files, so that it runs without Xen as the judge of xenstore's tests.
 *
 * The directory $JUDGE has dom1, dom2 ...: domains that exist, each file its ring page; and the FIFO events0, which
 * carries one byte for each event. Linked with the daemon in place of libxenctrl, libxenevtchn and libxengnttab.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define HANDLE ((void *)1)
#define PAGE 4096

static int events = -1;

static const char *file(const char *kind, unsigned domid)
{
    static char path[4096];

    snprintf(path, sizeof(path), "%s/%s%u", getenv("JUDGE"), kind, domid);
    return path;
}

xc_interface *xc_interface_open(xentoollog_logger *log, xentoollog_logger *build, unsigned flags) { return HANDLE; }
int xc_interface_close(xc_interface *xch) { return 0; }

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned count, xc_dominfo_t *info)
{
    memset(info, 0, sizeof(*info));
    info->domid = first;
    return first == 0 || access(file("dom", first), F_OK) == 0;
}

xengnttab_handle *xengnttab_open(xentoollog_logger *log, unsigned flags) { return HANDLE; }
int xengnttab_close(xengnttab_handle *xgt) { return 0; }
int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t count) { return 0; }

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    int fd = open(file("dom", domid), O_RDWR);
    void *page;

    if (fd < 0) {
        errno = EINVAL;
        return NULL;
    }
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *page, uint32_t count) { return munmap(page, PAGE); }

xenevtchn_handle *xenevtchn_open(xentoollog_logger *log, unsigned flags)
{
    events = open(file("events", 0), O_RDWR | O_NONBLOCK);
    return HANDLE;
}

xenevtchn_handle *xenevtchn_fdopen(xentoollog_logger *log, int fd, unsigned flags) { return HANDLE; }
int xenevtchn_close(xenevtchn_handle *xce) { return 0; }
int xenevtchn_fd(xenevtchn_handle *xce) { return events; }
int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port) { return 0; }
xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned virq) { return 1; }

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t port)
{
    return 100 + domid;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port) { return 0; }

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    unsigned char byte = 2;

    return read(events, &byte, 1) == 1 ? byte : 2;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port) { return 0; }

/* Domain 0's own ring, which nobody uses. */
evtchn_port_t xenbus_evtchn(void) { return 3; }
void *xenbus_map(void) { return mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); }
void unmap_xenbus(void *page) { munmap(page, PAGE); }
