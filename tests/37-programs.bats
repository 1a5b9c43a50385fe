# 37-programs.bats: what people put on a port, behind exec.
#
# Each program is also put behind tcpserver, with the same words, and both have
# to give the client the same.  A program that is not here is skipped.
# What a program is sent it reads to the end: tcpserver closes with a reset else,
# and the reply may be lost.

load helper
load programs

@test "git daemon: a repository is cloned, pushed to, and sound after it" {
	need git
	repository "$D/src"
	git clone -q --bare "$D/src" "$D/srv/repo.git"
	served git daemon --inetd --export-all --base-path="$D/srv" \
	    --enable=receive-pack
	both clone_objects
	[ "$(wc -l < "$D/ours")" -gt 300 ]
	git clone -q "git://127.0.0.1:$PORT/repo.git" "$D/work"
	diff -r -x .git "$D/src" "$D/work"
	echo changed > "$D/work/file1"
	git -C "$D/work" commit -qam change
	git -C "$D/work" push -q origin HEAD
	git -C "$D/srv/repo.git" fsck --full --strict
	both clone_objects
	git -C "$D/work" rev-list --objects --all | cut -d ' ' -f 1 | sort |
	    cmp - "$D/ours"
}

clone_objects() {
	rm -rf "$D/clone"
	git clone -q "git://127.0.0.1:$1/repo.git" "$D/clone"
	git -C "$D/clone" fsck --full
	git -C "$D/clone" rev-list --objects --all | cut -d ' ' -f 1 | sort
}

# Programs that need not know who comes: started before, and relayed.
waiting() { USER_OPTION+=(-o 'prespawn 2'); }

@test "git daemon that waits: a clone, a push, and the same objects" {
	need git
	waiting
	repository "$D/src"
	git clone -q --bare "$D/src" "$D/srv/repo.git"
	served git daemon --inetd --export-all --base-path="$D/srv" \
	    --enable=receive-pack
	both clone_objects
	git clone -q "git://127.0.0.1:$PORT/repo.git" "$D/work"
	seq 300000 > "$D/work/file1"
	git -C "$D/work" commit -qam change
	git -C "$D/work" push -q origin HEAD
	git -C "$D/srv/repo.git" fsck --full --strict
	both clone_objects
	[ "$(count_logged 'while it waited')" -eq 0 ]
}

@test "sftp-server that waits: files are put and fetched" {
	need sftp /usr/lib/openssh/sftp-server
	waiting
	head -c 3000000 /dev/urandom > "$D/file"
	served /usr/lib/openssh/sftp-server
	both transfer
	cmp "$D/file" "$D/ours"
}

@test "nbdkit --single that waits: a disk is written and read back" {
	need nbdkit nbdcopy
	waiting
	head -c 8388608 /dev/urandom > "$D/image"
	truncate -s 8388608 "$D/disk"
	served nbdkit --single file "$D/disk"
	nbdcopy "$D/image" "nbd://127.0.0.1:$PORT"
	both read_disk
	cmp "$D/image" "$D/ours"
}

@test "rsync --daemon: 1,000 files go both ways" {
	need rsync
	mkdir "$D/files" "$D/there"
	files "$D/files" 1000
	cat > "$D/rsyncd.conf" <<-END
	use chroot = no
	$([ "$(id -u)" -ne 0 ] || printf '%s\n' 'uid = 0' 'gid = 0')
	[files]
	path = $D/files
	[there]
	path = $D/there
	read only = no
	END
	served rsync --daemon "--config=$D/rsyncd.conf"
	both sync_list
	[ "$(wc -l < "$D/ours")" -eq 1001 ]
	rsync -a "rsync://127.0.0.1:$PORT/files/" "$D/here"
	diff -r "$D/files" "$D/here"
	rsync -a "$D/here/" "rsync://127.0.0.1:$PORT/there/"
	diff -r "$D/files" "$D/there"
	# again: nothing is left to do
	rsync -ai "$D/here/" "rsync://127.0.0.1:$PORT/there/" > "$D/more"
	[ ! -s "$D/more" ]
}

sync_list() { rsync -r "rsync://127.0.0.1:$1/files/"; }

@test "dropbear: a login by key, and what a command says" {
	need dropbear dbclient dropbearkey unshare
	[ "$(id -u)" -eq 0 ] || skip 'the home directory can only be laid over by root'
	unshare -m true || skip 'no mount namespace'
	mkdir -p "$D/home/.ssh"
	dropbearkey -t ed25519 -f "$D/host" > "$D/keygen" 2>&1
	dropbearkey -t ed25519 -f "$D/id" 2>&1 | grep '^ssh-' \
	    > "$D/home/.ssh/authorized_keys"
	chmod 700 "$D/home" "$D/home/.ssh"
	served unshare -m sh -c \
	    "mount --bind '$D/home' ~root && exec dropbear -i -s -r '$D/host'"
	both login
	[ "$(tail -n 1 "$D/ours")" = "$(seq 100000 | cksum)" ]
	# somebody else's key
	dropbearkey -t ed25519 -f "$D/id2" >> "$D/keygen" 2>&1
	run -1 dbclient -T -y -y -i "$D/id2" -p "$PORT" root@127.0.0.1 id
}

login() {
	dbclient -T -y -y -i "$D/id" -p "$1" root@127.0.0.1 \
	    'cat; exit' < <(seq 100000; seq 100000 | cksum) 2> "$D/dbclient"
}

@test "sftp-server: files are put and fetched" {
	need sftp /usr/lib/openssh/sftp-server
	head -c 3000000 /dev/urandom > "$D/file"
	served /usr/lib/openssh/sftp-server
	both transfer
	cmp "$D/file" "$D/ours"
	cmp "$D/file" "$D/theirs"
}

transfer() {
	rm -f "$D/put" "$D/got"
	printf 'put %s %s\nget %s %s\n' "$D/file" "$D/put" "$D/put" "$D/got" |
	    sftp -q -b - -D "nc -N 127.0.0.1 $1" x > "$D/sftp" 2>&1
	cat "$D/got"
}

@test "busybox httpd: the same bytes, and all of them under load" {
	need busybox
	mkdir "$D/www"
	seq 5000 > "$D/www/index.html"
	served busybox httpd -i -h "$D/www"
	both http_get /
	both http_get /nosuch
	size=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc 127.0.0.1 "$PORT" | wc -c)
	"$TOOLS/storm" -c 32 -n 600 -l 0 -x "$size" \
	    -s $'GET / HTTP/1.0\r\n\r\n' "$ADDRESS" > "$D/storm"
	grep -q '^ok=600 ' "$D/storm"
}

@test "micro-httpd: the same bytes" {
	need micro-httpd
	mkdir "$D/www"
	seq 5000 > "$D/www/a"
	served micro-httpd "$D/www"
	both http_get /a
	both http_get /
	both http_get /../pid
}

@test "in.fingerd: the same bytes" {
	need in.fingerd finger
	served in.fingerd
	both finger_root
	grep -q 'Login: root' "$D/ours"
}

finger_root() { printf 'root\r\n' | nc -N 127.0.0.1 "$1"; }

@test "nullmailer-smtpd: a message goes into the queue as it was sent" {
	need nullmailer-smtpd
	printf '#!/bin/sh\nexec cat > "%s/mail.$$"\n' "$D" > "$D/queue"
	chmod 755 "$D/queue"
	served env "NULLMAILER_QUEUE=$D/queue" \
	    "$(type -P nullmailer-smtpd)"
	both mail
	grep -q '^{}' "$D/ours"
	set -- "$D"/mail.*
	[ $# -eq 2 ]
	grep -v '^Received:' "$1" > "$D/one"
	grep -v '^Received:' "$2" | cmp - "$D/one"
	grep -qx '.a line with a dot' "$D/one"
}

mail() {
	python3 - "$1" <<-'END'
	import smtplib, sys
	with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as s:
	    print(s.sendmail("a@example.org", ["b@example.org"],
	                     "Subject: x\r\n\r\n.a line with a dot\r\n"))
	    print(s.docmd("QUIT"))
	END
}

@test "nbdkit --single: a disk is written and read back" {
	need nbdkit nbdcopy
	head -c 8388608 /dev/urandom > "$D/image"
	truncate -s 8388608 "$D/disk"
	served nbdkit --single file "$D/disk"
	nbdcopy "$D/image" "nbd://127.0.0.1:$PORT"
	cmp "$D/image" "$D/disk"
	both read_disk
	cmp "$D/image" "$D/ours"
}

read_disk() { nbdcopy "nbd://127.0.0.1:$1" -; }

ask_hello() { ask hello "$1"; }

@test "recordio: what passes it is the same, and recorded" {
	need recordio
	served recordio sh -c 'read -r line; echo "got $line"'
	both ask_hello
	[ "$(cat "$D/ours")" = 'got hello' ]
	wait_for logged '"[0-9]+ > got hello'
}

@test "rblsmtpd: it lets through whom its variable does not name" {
	need rblsmtpd
	served env RBLSMTPD= rblsmtpd cat
	both ask_hello
	[ "$(cat "$D/ours")" = hello ]
}

@test "rblsmtpd: it refuses whom its variable names" {
	need rblsmtpd
	served env RBLSMTPD='-go away' rblsmtpd cat
	both helo
	grep -q '^553 go away' "$D/ours"
	wait_for logged '553 go away'
}

helo() {
	printf '%s\r\n' 'HELO x' 'MAIL FROM:<a@b>' 'RCPT TO:<c@d>' QUIT |
	    nc -N 127.0.0.1 "$1"
}

@test "setuidgid and softlimit: the program is who and has what they say" {
	need setuidgid softlimit
	[ "$(id -u)" -eq 0 ] || skip 'setuidgid needs root'
	served setuidgid nobody softlimit -o 20 \
	    sh -c 'read -r line; id -un; ulimit -n'
	both ask_hello
	[ "$(cat "$D/ours")" = $'nobody\n20' ]
}

@test "tcpd: it sees who is there, and lets it in" {
	need tcpd argv0
	served argv0 tcpd "$(type -P cat)"
	both ask_hello
	[ "$(cat "$D/ours")" = hello ]
}
