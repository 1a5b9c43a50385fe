#!/usr/bin/env bats
# The build, from outside: private copies of the tree, no network, no apt.
# Two builds are shared: `fresh', a copy without configure built by plain
# make, and `other', by clang in a directory of its own with other paths.

top=$(realpath "$BATS_TEST_DIRNAME/..")
fresh=$BATS_FILE_TMPDIR/fresh
other=$BATS_FILE_TMPDIR/other

# The caller's make, bats and settings stay outside.
clean() {
	env -i PATH="${PATH//$BATS_LIBEXEC:/}" HOME="$HOME" LC_ALL=C \
	    TMPDIR="${BATS_TEST_TMPDIR-$BATS_FILE_TMPDIR}" "$@" 3>&-
}

# A copy of the tree as a clone would have it, and without git.
copy_tree() {
	mkdir -p "$1"
	tar -C "$top" --exclude=./.git --exclude=./tests/build -cf - . |
	    tar -xf - -C "$1"
	(cd "$1" && clean make -s distclean &&
	    rm -rf configure autom4te.cache preforkd-*.tar.gz MANIFEST &&
	    files=$(find . -type f -printf '%P\n' | LC_ALL=C sort) &&
	    echo "$files" >MANIFEST)
}

# Everything in /usr/bin but the commands named, as the only PATH.
path_without() {
	local bin=$BATS_TEST_TMPDIR/bin
	mkdir "$bin"
	ln -s /usr/bin/* /usr/sbin/* "$bin" 2>/dev/null || true
	(cd "$bin" && rm -f "$@")
	PATH=$bin
}

# stub NAME: a command of PATH whose body is standard input.
stub() {
	rm -f "$BATS_TEST_TMPDIR/bin/$1"
	{ echo '#!/bin/sh'; cat; } >"$BATS_TEST_TMPDIR/bin/$1"
	chmod +x "$BATS_TEST_TMPDIR/bin/$1"
}

in_fresh() {
	cd "$fresh" && clean "$@"
}

in_other() {
	cd "$other" && clean "$@"
}

# A bats file from standard input, with %test for what bats would take as a
# test of this file.
bats_file() {
	sed 's/%test/@test/' >"$1"
}

# A built tree whose tests are standard input, and nothing else.  Its test
# programs, which need no file of tests, are built for the first that asks.
tree_with_tests() {
	local tree=$BATS_FILE_TMPDIR/tested
	if [ ! -d "$tree" ]; then
		cp -a "$fresh" "$tree"
		rm -f "$tree"/tests/*.bats "$tree"/tests/*/*.c
		(cd "$tree" && clean make -s -j2 test-programs)
	fi
	cp -a "$tree" "$BATS_TEST_TMPDIR/tree"
	cd "$BATS_TEST_TMPDIR/tree" || return
	bats_file tests/10-one.bats
}

setup_file() {
	copy_tree "$fresh"
	in_fresh make -s -j2 >"$fresh.log" 2>&1 || true
	cp -a "$fresh" "$fresh.ro"
	(cd "$fresh.ro" && clean make -s distclean && chmod -R a-w .)
	mkdir "$other"
	(cd "$other" && find "$fresh.ro" -printf '%p %T@\n' | sort >../before &&
	    clean ../fresh.ro/configure -q --prefix=/opt/pf \
	    --sysconfdir=/etc/pf --runstatedir=/run/pf CC=clang &&
	    clean make -s -j2; find "$fresh.ro" -printf '%p %T@\n' |
	    sort >../after) >"$other.log" 2>&1 || true
}

teardown_file() {
	chmod -R u+w "$fresh.ro"
}

@test "plain make builds a fresh copy, without a word" {
	cat "$fresh.log"
	[ ! -s "$fresh.log" ]
	[ -x "$fresh/src/preforkd" ]
	[ -x "$fresh/src/preforkctl" ]
}

@test "clang builds without a warning, elsewhere, from a read-only tree" {
	cat "$other.log"
	[ ! -s "$other.log" ]
	[ -x "$other/src/preforkd" ]
	[ -x "$other/src/preforkctl" ]
	diff "$BATS_FILE_TMPDIR/before" "$BATS_FILE_TMPDIR/after"
}

@test "a second make does nothing" {
	run in_fresh make --no-print-directory
	[ "$output" = "make: Nothing to be done for 'all'." ]
}

@test "a change of a header or of config.mk rebuilds the objects" {
	cp -a "$fresh" "$BATS_TEST_TMPDIR/tree"
	cd "$BATS_TEST_TMPDIR/tree"
	clean make -q
	touch src/preforkd-module.h
	clean make -n | grep -- '-o src/service/greet.o'
	cp -p "$fresh/src/preforkd-module.h" src
	clean make -q
	touch config.mk
	clean make -n | grep -- '-o src/service/greet.o'
}

@test "SANITIZE builds all anew, there and back" {
	cp -a "$fresh" "$BATS_TEST_TMPDIR/tree"
	cd "$BATS_TEST_TMPDIR/tree"
	clean make -s src/service/greet.o SANITIZE=address,undefined
	nm src/service/greet.o | grep -q __asan_
	run clean make -q SANITIZE=address,undefined
	[ "$status" -eq 1 ]
	clean make -s src/service/greet.o
	run nm src/service/greet.o
	[[ "$output" != *__asan_* ]]
}

@test "programs are position-independent, read-only bound and protected" {
	for program in "$fresh/src/preforkd" "$other/src/preforkd"; do
		run readelf -hldW "$program"
		[[ "$output" == *"Type: "*DYN* ]]
		[[ "$output" == *GNU_RELRO* ]]
		[[ "$output" == *"Flags: NOW PIE"* ]]
	done
	for flag in -fPIE -pie -fstack-protector-strong \
	    -fstack-clash-protection -D_FORTIFY_SOURCE=2; do
		grep -q -- " $flag " "$fresh/config.flags"
		grep -q -- " $flag " "$other/config.flags"
	done
}

@test "paths are the ones configure was given, and /run by default" {
	grep -qx 'runstatedir = /run' "$fresh/config.mk"
	grep -q /etc/pf "$other/config.flags"
	grep -q /run/pf "$other/config.flags"
}

@test "a static link names the libraries behind libbsd, others do not" {
	cd "$BATS_TEST_TMPDIR"
	clean "$fresh/configure" -q LDFLAGS=-static --localstatedir=/var
	grep -q '^LIBBSD_LIBS = .*-lmd' config.mk
	run grep -E 'HAVE_MODULES|-rdynamic' config.mk
	[ "$status" -eq 1 ]
	run grep '^LIBBSD_LIBS = .*-lmd' "$fresh/config.mk"
	[ "$status" -eq 1 ]
	# And whoever names localstatedir gets the run directory in it.
	grep -qx 'runstatedir = ${localstatedir}/run' config.mk
}

@test "where modules cannot be had, the one that is asked for says so" {
	cp -a "$fresh" "$BATS_TEST_TMPDIR/tree"
	cd "$BATS_TEST_TMPDIR/tree"
	# as configure has it for a static link
	sed -i 's/ -DHAVE_MODULES=1//; s/ -rdynamic//' config.mk
	touch src/module.c
	clean make -s -o config.mk -o config.flags src/preforkd
	printf 'service a\nlisten :0\nmodule /x.so\n' >conf
	run src/preforkd -n -f conf
	[ "$status" -eq 1 ]
	[[ "$output" == *"conf:3: service a: module /x.so: not available here: preforkd is linked statically" ]]
}

@test "install puts everything in its place, uninstall leaves nothing" {
	dest="$BATS_TEST_TMPDIR/dest dir"
	in_other make -s install DESTDIR="$dest"
	[ -x "$dest/opt/pf/sbin/preforkd" ]
	[ -x "$dest/opt/pf/sbin/preforkctl" ]
	cmp "$dest/opt/pf/include/preforkd-module.h" \
	    "$top/src/preforkd-module.h"
	run env PKG_CONFIG_PATH="$dest/opt/pf/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR= \
	    pkg-config --cflags --variable=moduledir preforkd
	[ "$output" = "-I/opt/pf/include /opt/pf/lib/preforkd" ] ||
	    [ "$output" = /opt/pf/lib/preforkd ]
	[ -d "$dest/opt/pf/lib/preforkd" ]
	for page in "$top"/man/*.[1-9]; do
		cmp "$page" "$dest/opt/pf/share/man/man${page##*.}/${page##*/}"
	done
	[ -d "$dest/etc/pf/preforkd.d" ]
	[ -x "$dest/etc/pf/init.d/preforkd" ]
	[ ! -x "$dest/etc/pf/default/preforkd" ]
	"$dest/opt/pf/sbin/preforkd" -n -f "$dest/etc/pf/preforkd.conf"
	in_other make -s uninstall DESTDIR="$dest"
	run find "$dest" -name '*preforkd*'
	[ -z "$output" ]
}

@test "what is installed under sysconfdir has the paths of configure" {
	dest=$BATS_TEST_TMPDIR
	in_other make -s install DESTDIR="$dest"
	cd "$top/etc"
	for file in preforkd.conf */preforkd; do
		sed 's|/usr/sbin/|/opt/pf/sbin/|g; s|/etc/|/etc/pf/|g
		s|/run/|/run/pf/|g' $file | cmp - "$dest/etc/pf/$file"
	done
	grep -x DAEMON=/opt/pf/sbin/preforkd "$dest/etc/pf/init.d/preforkd"
	grep -x 'CONFIG=/etc/pf/$name.conf' "$dest/etc/pf/init.d/preforkd"
	grep -x 'PIDFILE=/run/pf/preforkd/$name.pid' \
	    "$dest/etc/pf/init.d/preforkd"
}

@test "a configuration that was there survives install and uninstall" {
	dest=$BATS_TEST_TMPDIR/dest
	conf=$dest/etc/pf/preforkd.conf
	mkdir -p "$dest/etc/pf"
	echo "listen 127.0.0.1:9" >"$conf"
	run in_other make -s install DESTDIR="$dest"
	[ "${lines[0]}" = "kept $conf, which is yours" ]
	[ "${lines[1]}" = "the new one is $conf.new" ]
	[ "${#lines[@]}" -eq 2 ]
	grep '^service greet' "$conf.new"
	# The same version once more has nothing new to show.
	rm "$conf.new"
	run in_other make -s install DESTDIR="$dest"
	[ "$output" = "kept $conf, which is yours" ]
	[ ! -e "$conf.new" ]
	run in_other make -s uninstall DESTDIR="$dest"
	[ "$output" = "kept $conf, which is yours" ]
	run find "$dest" ! -type d
	[ "$output" = "$conf" ]
	[ "$(cat "$conf")" = "listen 127.0.0.1:9" ]
}

@test "a new version replaces the files that nobody has changed" {
	dest=$BATS_TEST_TMPDIR
	cp -r "$top/build-aux" "$top/etc" "$dest"
	sysconf() {
		DESTDIR=$dest/dest sbindir=/sbin sysconfdir=/run/e \
		    runstatedir=/r datadir=/share INSTALL=install \
		    systemdsystemunitdir=no \
		    "$dest/build-aux/sysconf" "$1"
	}
	sysconf install
	cd "$dest/dest/run/e"
	# One directory's name within another's is not taken for it.
	grep -x 'CONFIG=/run/e/$name.conf' init.d/preforkd
	echo '# mine' >>default/preforkd
	echo '# new' | tee -a "$dest/etc/preforkd.conf" \
	    "$dest/etc/default/preforkd"
	kept="kept $dest/dest/run/e/default/preforkd, which is yours"
	run sysconf install
	[ "${lines[0]}" = "$kept" ]
	[ "${#lines[@]}" -eq 2 ]
	[ "$(tail -n 1 preforkd.conf)" = '# new' ]
	[ "$(tail -n 1 default/preforkd)" = '# mine' ]
	[ "$(tail -n 1 default/preforkd.new)" = '# new' ]
	[ ! -e preforkd.conf.new ]
	echo 'service x' >preforkd.d/x.conf
	run sysconf uninstall
	[ "$output" = "$kept" ]
	[ "$(cd "$dest/dest" && find . ! -type d | sort)" = \
	    "$(printf '%s\n' ./run/e/{default/preforkd,preforkd.d/x.conf})" ]
}

@test "the tarball of make dist builds, checks and packs itself again" {
	tree=$BATS_TEST_TMPDIR/tree
	copy_tree "$tree"
	cd "$tree"
	if command -v git >/dev/null; then
		rm MANIFEST
		clean git init -q
		clean git add .
		clean git -c user.name=t -c user.email=t@example.org \
		    commit -q -m t
	fi
	name=$(clean make -s dist)
	[[ "$name" == preforkd-[0-9]*.tar.gz ]]
	cd "$BATS_TEST_TMPDIR"
	tar -xzf "tree/$name"
	cd "${name%.tar.gz}"
	[ -x configure ]
	grep -x configure MANIFEST
	[ ! -e .git ]
	rm -f tests/*.bats tests/unit/*.c tests/tools/*.c tests/bench/*.c
	rm -rf tests/faults
	bats_file tests/01-programs.bats <<-'END'
	%test "the programs are there" {
		[ -x "$BUILDDIR/src/preforkd" ]
		[ -x "$BUILDDIR/src/preforkctl" ]
	}
	END
	run clean make -j2 check CFLAGS=-O0
	echo "$output"
	[ "$status" -eq 0 ]
	[ "${lines[-1]}" = "1 passed, 0 failed" ]
	# Unpacked once more: nothing built, nothing left out.
	cd "$BATS_TEST_TMPDIR"
	rm -rf "${name%.tar.gz}"
	tar -xzf "tree/$name"
	(cd "${name%.tar.gz}" && clean make -s dist)
	cmp "tree/$name" "${name%.tar.gz}/$name"
}

@test "make help names every target" {
	targets=$(sed -n 's/^\.PHONY: //p' "$top/Makefile")
	[[ "$targets" == *all*uninstall* ]]
	run in_fresh make help
	for target in $targets; do
		grep -E "^  $target  +[a-z]" <<<"$output"
	done
}

@test "without libbsd configure says which package to install" {
	cd "$BATS_TEST_TMPDIR"
	run clean PKG_CONFIG_LIBDIR=/nonexistent "$fresh/configure" -q
	[ "$status" -ne 0 ]
	[[ "$output" == *"libbsd is missing"*"apt-get install libbsd-dev"* ]]
	run make -s -f "$fresh/Makefile" PKG_CONFIG_LIBDIR=/nonexistent
	[ "$status" -ne 0 ]
	[[ "$output" == *"libbsd is missing"* ]]
}

@test "without autoconf make says what to install" {
	copy_tree "$BATS_TEST_TMPDIR/tree"
	path_without autoconf
	run clean make -C "$BATS_TEST_TMPDIR/tree"
	[ "$status" -ne 0 ]
	[[ "$output" == *"autoconf is missing"*"apt-get install autoconf"* ]]
}

@test "deps is silent and leaves apt alone when nothing is missing" {
	path_without
	stub apt-get <<<'echo "apt-get called"'
	run clean "$top/build-aux/deps" check
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "deps installs what is missing, as root, without a question" {
	path_without bats strace
	stub id <<<'echo 0'
	stub apt-get <<-END
	echo "\$DEBIAN_FRONTEND \$*" >>"$BATS_TEST_TMPDIR/calls"
	echo noise
	case "\$*" in *install*)
		ln -s /bin/true "$BATS_TEST_TMPDIR/bin/bats"
		ln -s /bin/true "$BATS_TEST_TMPDIR/bin/strace" ;;
	esac
	END
	run clean "$top/build-aux/deps" check
	[ "$status" -eq 0 ]
	[ "$output" = "Installing: bats strace" ]
	run cat "$BATS_TEST_TMPDIR/calls"
	[ "${lines[0]}" = "noninteractive -qq -y update" ]
	[[ "${lines[1]}" == "noninteractive -qq -y "*" install bats strace" ]]
	[ "${#lines[@]}" -eq 2 ]
}

@test "deps goes through sudo when it is not root" {
	path_without bats
	stub id <<<'echo 1000'
	stub sudo <<<"echo \"\$*\" >>'$BATS_TEST_TMPDIR/calls'"
	run clean "$top/build-aux/deps" check
	[ "$status" -ne 0 ]
	[[ "$output" == *"please install: bats"*"still not found"* ]]
	grep -q 'apt-get .* install bats$' "$BATS_TEST_TMPDIR/calls"
}

@test "deps says what to install where it cannot" {
	path_without bats sudo
	stub id <<<'echo 1000'
	run clean "$top/build-aux/deps" check
	[ "$status" -ne 0 ]
	[[ "$output" == *"please install: bats"*"neither root nor sudo"* ]]
	rm "$BATS_TEST_TMPDIR/bin/apt-get"
	run clean "$top/build-aux/deps" check
	[ "$status" -ne 0 ]
	[[ "$output" == *"please install: bats"*"no apt-get"* ]]
}

@test "make run says how to try it and serves greet in the foreground" {
	cp -a "$fresh" "$BATS_TEST_TMPDIR/tree"
	cd "$BATS_TEST_TMPDIR/tree"
	printf '#!/bin/sh\necho "preforkd $*"\n' >src/preforkd
	run clean make run
	[ "$status" -eq 0 ]
	[[ "${lines[0]}" == *"telnet 127.0.0.1 8001"* ]]
	[ "${lines[1]}" = "preforkd -d -l 127.0.0.1:8001 greet" ]
	[ "${#lines[@]}" -eq 2 ]
}


@test "a failing test fails make check, and .ci/run, which count it" {
	tree_with_tests <<-'END'
	%test "good" { true; }
	%test "bad" { echo because; false; }
	%test "not here" { skip "no reason"; }
	END
	run clean make check
	[ "$status" -ne 0 ]
	[[ "$output" == *because* ]]
	[[ "$output" == *"skipped 3 not here # skip no reason"* ]]
	[[ "$output" == *$'\n'"1 passed, 1 failed"$'\n'* ]]
	run clean .ci/run
	[ "$status" -ne 0 ]
	[ "${lines[-1]}" = "1 passed, 1 failed" ]
}

@test "tests that never report have failed" {
	tree_with_tests <<<'%test "good" { true; }'
	run clean make -s check
	[ "$status" -eq 0 ]
	[ "$output" = "$(printf '%-24s   1 passed, 0 failed, 0 skipped' 10-one \
	    ) ($(sed 's/.*(\(.*\) s).*/\1/' <<<"${lines[0]}") s)
1 passed, 0 failed" ]
	bats_file tests/20-two.bats <<-'END'
	syntax ( error
	%test "x" { true; }
	END
	bats_file tests/30-three.bats <<-'END'
	setup_file() { false; }
	%test "x" { true; }
	%test "y" { true; }
	END
	bats_file tests/40-four.bats <<-'END'
	%test "x" { exec sleep 20; }
	%test "y" { true; }
	END
	run clean TIMEOUT=5 tests/run	# enough for the good one
	[ "$status" -eq 1 ]
	[ "${lines[-1]}" = "1 passed, 5 failed" ]
	run clean make check TESTS=nosuch
	[ "$status" -ne 0 ]
	[[ "$output" == *"no tests named nosuch"* ]]
}

@test "no test at all is a failure" {
	tree_with_tests <<<'%test "not here" { skip; }'
	run clean .ci/run
	[ "$status" -ne 0 ]
	[ "${lines[-1]}" = "0 passed, 0 failed" ]
	rm tests/*.bats
	run clean .ci/run
	[ "$status" -ne 0 ]
	[ "${lines[-1]}" = "0 passed, 1 failed" ]
}

@test "lint fails for each thing it looks for, and says where" {
	tree=$BATS_TEST_TMPDIR/tree
	mkdir -p "$tree"/{.ci,src,man,tests}
	cp -r "$top/build-aux" "$tree"
	cd "$tree"
	run clean build-aux/lint
	[ "$status" -eq 0 ]
	[ -z "$output" ]

	printf '/* %077d */\n' 0 >src/wide.c
	{ printf 'void\nf(void)\n{\n'; printf '\n%.0s' {1..61}; echo '}'; } \
	    >src/long.c
	printf '.Dd x\n' >man/bad.8
	printf '#!/bin/sh\necho $1\n' >.ci/bad
	printf 'int\nmain(void)\n{\n\tint *p = 0;\n\n\treturn *p;\n}\n' \
	    >src/null.c
	for found in src/wide.c:1: src/long.c:3: man/bad.8:1: .ci/bad \
	    src/null.c:6:; do
		run clean build-aux/lint -std=c11
		[ "$status" -eq 1 ]
		[[ "$output" == *"$found"* ]]
	done
}
