# Makefile: builds, tests and installs preforkd.  For GNU make.
#
# config.mk, written by configure, says which compiler, paths and system
# features there are; when it is missing, make runs autoconf and configure
# by itself.  Sources, tests and manual pages are found by wildcards: a new
# file needs no line here.  To build elsewhere: mkdir b && cd b &&
# ../configure && make; nothing is written beside the sources then.

srcdir := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
aux := $(srcdir)/build-aux
MAKEFLAGS += -r

# For you to set.
DESTDIR =
INSTALL = install
LISTEN = 127.0.0.1:8001
# Tests wait for most of their time.
JOBS ?= $(shell echo $$((5 * $$(getconf _NPROCESSORS_ONLN) / 2)))
SANITIZE ?=
TESTS ?=
FUZZ_TIME ?= 60

all: src/preforkd src/preforkctl ## build src/preforkd and src/preforkctl

### Targets that look after what they need themselves

# make again, once what it needs is there.
again = +@$(MAKE) --no-print-directory -s

run: ## install what is missing, build, and serve `greet' on LISTEN
	@$(aux)/deps build
	$(again) all
	@echo "Serving on $(LISTEN), until Ctrl-C.  Try it:" \
	    "telnet $(subst :, ,$(LISTEN))"
	@exec src/preforkd -d -l $(LISTEN) greet

check: ## install what is missing, build, run all tests (or TESTS, on JOBS)
	@$(aux)/deps check
	$(again) all test-programs
	@JOBS='$(JOBS)' SANITIZE='$(SANITIZE)' $(srcdir)/tests/run $(TESTS)

soak: ## the same with the long runs of tests/soak, about an hour
	@$(aux)/deps soak
	$(again) all test-programs
	@JOBS='$(JOBS)' SANITIZE='$(SANITIZE)' SOAK=soak TIMEOUT=3600 \
	    $(srcdir)/tests/run $(TESTS)

bench: ## run the benchmarks and print their report
	@$(aux)/deps bench
	-@$(aux)/deps fetch tests/build/fetched
	$(again) all test-programs tests/build/handler-static
	@if [ ! -x $(srcdir)/tests/bench/run ]; then \
	    echo "make bench: no tests/bench/run here" >&2; exit 1; fi
	@BUILDDIR='$(CURDIR)' $(srcdir)/tests/bench/run

dist: ## make preforkd-VERSION.tar.gz, with a ready configure
	@$(aux)/dist

clean: ## remove what make has built
	rm -rf tests/build
	rm -f src/*.[od] src/service/*.[od] src/preforkd src/preforkctl

distclean: clean ## remove what configure has written, too
	rm -f config.mk config.flags config.log config.status

help: ## print this list
	@echo "Targets of make:"
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/\1	\2/p' $(srcdir)/Makefile | \
	    expand -t 15 | sed 's/^/  /'
	@echo "Variables: CC CFLAGS CPPFLAGS LDFLAGS SANITIZE=address,undefined"
	@echo "  DESTDIR LISTEN=$(LISTEN) JOBS=$(JOBS) TESTS='10-greet ...'"
	@echo "  FUZZ_TIME=$(FUZZ_TIME)"

.PHONY: all run check soak bench fuzz dist clean distclean help
.PHONY: test-programs lint install uninstall
.DELETE_ON_ERROR:

### The rest needs config.mk

unconfigured = run check soak bench dist clean distclean help
ifneq ($(filter-out $(unconfigured),$(or $(MAKECMDGOALS),all)),)

include config.mk

$(srcdir)/configure: $(srcdir)/configure.ac
	@command -v autoconf >/dev/null || { echo "make: autoconf is" \
	    "missing; on Debian: apt-get install autoconf (a release" \
	    "tarball does without)" >&2; exit 1; }
	@cd $(srcdir) && autoconf && rm -rf autom4te.cache

config.mk: $(srcdir)/configure $(srcdir)/config.mk.in
	@if [ -x config.status ]; then \
	    ./config.status -q --recheck && ./config.status -q; \
	else \
	    $(srcdir)/configure -q; \
	fi

### Flags

warnings = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
    -Wpointer-arith -Wcast-qual -Wformat=2 -Wswitch-enum

# glibc wants optimisation for it, the sanitizers want to be alone.
fortify := $(if $(SANITIZE)$(filter -O0,$(CFLAGS)),,$(if \
    $(filter -O%,$(CFLAGS)),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
sanitize := $(if $(SANITIZE),-fsanitize=$(SANITIZE) \
    -fno-sanitize-recover=all -fno-omit-frame-pointer)

cppflags := -I$(srcdir)/src -D_GNU_SOURCE -DLIBBSD_OPENBSD_VIS \
    -DPACKAGE_VERSION='"$(PACKAGE_VERSION)"' \
    -DSYSCONFDIR='"$(sysconfdir)"' -DRUNSTATEDIR='"$(runstatedir)"' \
    $(HAVE) $(LIBBSD_CFLAGS) $(fortify) $(CPPFLAGS)
cflags := -std=c11 -fvisibility=hidden $(warnings) $(HARDEN_CFLAGS) $(sanitize) $(CFLAGS)
ldflags := $(HARDEN_LDFLAGS) $(sanitize) $(CFLAGS) $(LDFLAGS)
libs := $(LIBBSD_LIBS) $(LIBS)

# A change of flags, SANITIZE above all, rebuilds everything.
flags := $(strip $(CC) $(cppflags) $(cflags) $(ldflags) $(libs))
ifneq ($(file <config.flags),$(flags))
$(file >config.flags,$(flags))
endif
config.flags: ;

### Programs

sources := $(patsubst $(srcdir)/%.c,%,\
    $(wildcard $(srcdir)/src/*.c $(srcdir)/src/service/*.c))
# preforkctl's own; and what it has in common with preforkd and the tests.
ctl := $(addprefix src/,$(addsuffix .o,preforkctl control human listing \
    rates show))
common := $(filter-out src/main.o $(ctl),$(addsuffix .o,$(sources)))

compile = @mkdir -p $(@D)$(newline)$(CC) $(cppflags) $(cflags) -MMD -MP
link = $(CC) $(ldflags) -o $@ $^ $(libs)

define newline


endef

src/%.o: $(srcdir)/src/%.c config.mk config.flags
	$(compile) -c -o $@ $<

# Theirs are the calls of preforkd-module.h, and nothing else is exported.
src/preforkd tests/build/preforkd-faulty: ldflags += $(EXPORT_LDFLAGS)

src/preforkd: src/main.o $(common)
	$(link)

src/preforkctl: $(ctl) $(common)
	$(link)

### Programs for the tests

names = $(basename $(notdir $(wildcard $(srcdir)/tests/$(1)/*.c)))
tools := $(addprefix tests/build/,$(call names,tools) $(call names,bench))
units := $(addprefix tests/build/unit-,$(call names,unit))
faults := $(patsubst %,tests/build/fault-%.o,$(call names,faults))
faulty := $(if $(faults),tests/build/preforkd-faulty)
modules := $(patsubst %,tests/build/module-%.so,greet $(call names,modules))

others := $(addprefix tests/build/,preforkd-other preforkd-layout \
    preforkctl-layout)
fuzzers := $(filter-out replay,$(call names,fuzz))
replays := $(addprefix tests/build/replay-,$(fuzzers))

test-programs: $(tools) $(units) $(faulty) $(modules) $(others) $(replays) ## build what the tests use

# One file each, not linked with the program.
tests/build/%: $(srcdir)/tests/tools/%.c config.mk config.flags
	$(compile) -MT $@ -MF $@.d $(ldflags) -o $@ $< $(libs)

tests/build/%: $(srcdir)/tests/bench/%.c config.mk config.flags
	$(compile) -MT $@ -MF $@.d $(ldflags) -o $@ $< $(libs)

# These measure parts of the program itself.
tests/build/rules tests/build/accounting: \
    tests/build/%: $(srcdir)/tests/bench/%.c $(common)
	$(compile) -MT $@ -MF $@.d $(ldflags) -o $@ $^ $(libs)

# What the benchmarks start for each connection: as small as can be.
tests/build/handler-static: $(srcdir)/tests/bench/handler.c config.flags
	@mkdir -p $(@D)
	$(CC) -O2 -static -o $@ $<

tests/build/unit-%.o: $(srcdir)/tests/unit/%.c config.mk config.flags
	$(compile) -c -o $@ $<

tests/build/unit-%: tests/build/unit-%.o $(common)
	$(link)

# The server with hostile services in place of the built-in ones.
tests/build/fault-%.o: $(srcdir)/tests/faults/%.c config.mk config.flags
	$(compile) -c -o $@ $<

tests/build/preforkd-faulty: src/main.o \
    $(filter-out src/service/builtin.o,$(common)) $(faults)
	$(link)

# Modules, as a user builds them; and a built-in service as one of them.
module = @mkdir -p $(@D)$(newline)$(CC) -I$(srcdir)/src $(warnings) -O2 -g \
    -MMD -MP -MF $@.d -shared -fPIC -o $@

tests/build/module-%.so: $(srcdir)/tests/modules/%.c config.mk
	$(module) $<

tests/build/module-greet.so: $(srcdir)/src/service/greet.c config.mk
	$(module) -Dgreet_service=preforkd_module $<

# Other releases, to upgrade to: one of another version, and one that has
# another scoreboard as well, and less patience with what it upgrades to.
other = tests/build/other
layout = tests/build/layout
versioned = $(addprefix src/,main.o scoreboard.o handover.o upgrade.o)

$(other)/%.o: $(srcdir)/%.c config.mk config.flags
	$(compile) -UPACKAGE_VERSION -DPACKAGE_VERSION='"0.other"' -c -o $@ $<

$(layout)/%.o: $(srcdir)/%.c config.mk config.flags
	$(compile) -UPACKAGE_VERSION -DPACKAGE_VERSION='"0.layout"' \
	    -DSCOREBOARD_VERSION=99 -DSCOREBOARD_PADDING=70 \
	    -DCHECK_TIME=1500 -DREADY_TIME=1000 -c -o $@ $<

tests/build/preforkd-other: $(addprefix $(other)/,$(versioned)) \
    $(filter-out $(versioned),$(common))
	$(link)

tests/build/preforkd-layout: $(addprefix $(layout)/,src/main.o $(common))
	$(link)

tests/build/preforkctl-layout: $(addprefix $(layout)/,$(ctl) $(common))
	$(link)

# What fuzzing has found, and what it starts from, once through each target.
tests/build/fuzz-%.o: $(srcdir)/tests/fuzz/%.c config.mk config.flags
	$(compile) -c -o $@ $<

tests/build/replay-%: tests/build/fuzz-replay.o tests/build/fuzz-%.o $(common)
	$(link)

# The same with libFuzzer, each for FUZZ_TIME seconds.
fuzz_flags = $(filter-out -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2,$(cppflags)) \
    -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=all

tests/build/libfuzzer-%: $(srcdir)/tests/fuzz/%.c $(addprefix $(srcdir)/,\
    $(addsuffix .c,$(filter-out src/main $(ctl:.o=),$(sources))))
	@mkdir -p $(@D)
	clang $(fuzz_flags) -o $@ $^ $(libs)

fuzz: ## fuzz each target of tests/fuzz for FUZZ_TIME seconds
	@$(aux)/deps fuzz
	$(again) $(addprefix tests/build/libfuzzer-,$(fuzzers))
	@for each in $(fuzzers); do \
	    mkdir -p tests/build/corpus/$$each && \
	    tests/build/libfuzzer-$$each -max_total_time=$(FUZZ_TIME) \
	    -max_len=16384 -timeout=10 -artifact_prefix=tests/build/$$each- \
	    -verbosity=0 -print_final_stats=1 tests/build/corpus/$$each \
	    $(srcdir)/tests/fuzz/corpus/$$each || exit 1; done

.SECONDARY:
-include $(wildcard src/*.d src/service/*.d tests/build/*.d \
    $(other)/src/*.d $(layout)/src/*.d $(layout)/src/service/*.d)

### Lint and installation

lint: ## check manual pages, shell files, style, and analyse the C files
	@$(aux)/deps check
	@$(aux)/lint $(cppflags) -std=c11

# For those who build modules: where the header is, and where to put them.
pkgconfigdir = $(libdir)/pkgconfig
moduledir = $(libdir)/preforkd
pc = 'moduledir=$(moduledir)' '' 'Name: preforkd' \
    'Description: modules of the prefork TCP server preforkd' \
    'Version: $(PACKAGE_VERSION)' 'Cflags: -I$(includedir)'

pages := $(wildcard $(srcdir)/man/*.[1-9])
sysconf = @sbindir='$(sbindir)' sysconfdir='$(sysconfdir)' \
    runstatedir='$(runstatedir)' datadir='$(datadir)' DESTDIR='$(DESTDIR)' \
    systemdsystemunitdir='$(systemdsystemunitdir)' INSTALL='$(INSTALL)' \
    $(aux)/sysconf

install: all ## install under DESTDIR; a configuration that is there stays
	$(INSTALL) -d "$(DESTDIR)$(sbindir)" "$(DESTDIR)$(includedir)"
	$(INSTALL) -m 755 src/preforkd src/preforkctl "$(DESTDIR)$(sbindir)"
	$(INSTALL) -d "$(DESTDIR)$(pkgconfigdir)" "$(DESTDIR)$(moduledir)"
	$(INSTALL) -m 644 $(srcdir)/src/preforkd-module.h \
	    "$(DESTDIR)$(includedir)"
	printf '%s\n' $(pc) >"$(DESTDIR)$(pkgconfigdir)/preforkd.pc"
	chmod 644 "$(DESTDIR)$(pkgconfigdir)/preforkd.pc"
	for page in $(pages); do \
	    dir="$(DESTDIR)$(mandir)/man$${page##*.}"; \
	    $(INSTALL) -d "$$dir" && $(INSTALL) -m 644 "$$page" "$$dir" || \
	    exit 1; done
	$(sysconf) install

uninstall: ## remove what install put there; a changed configuration stays
	rm -f "$(DESTDIR)$(sbindir)/preforkd" "$(DESTDIR)$(sbindir)/preforkctl"
	rm -f "$(DESTDIR)$(includedir)/preforkd-module.h" \
	    "$(DESTDIR)$(pkgconfigdir)/preforkd.pc"
	rmdir "$(DESTDIR)$(moduledir)" 2>/dev/null || :
	for page in $(pages); do \
	    rm -f "$(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/}"; done
	$(sysconf) uninstall

endif
