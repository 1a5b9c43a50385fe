# 39-resident-programs.bats: what people let accept by itself.
#
# FastCGI programs stand behind a real nginx, which also asks the same program
# started by spawn-fcgi; both have to answer the same.

load helper
load programs

# resident WORD...: on $PORT, one program per CPU or so.
resident() {
	local program
	program=$(type -P "$1")
	shift
	cat > "$D/conf" <<-END
	service app
	listen 127.0.0.1:0
	resident $program $*
	ready-time 20ms
	workers-max ${MAX:-4}
	END
	start -f "$D/conf"
}

# nginx_for WORD...: a web server on $WEB, /ours and /theirs.
nginx_for() {
	need nginx spawn-fcgi
	resident "$@"
	free_ports 2
	WEB=${PORTS[0]} PEER=${PORTS[1]}
	background spawn-fcgi -n -a 127.0.0.1 -p "$PEER" -- "$(type -P "$1")" "${@:2}"
	nginx_conf > "$D/nginx.conf"
	background nginx -p "$D" -c "$D/nginx.conf" -e "$D/nginx.log"
	wait_for listening "$WEB"
	wait_for listening "$PEER"
}

nginx_conf() {
	local kind
	[ "$(id -u)" -ne 0 ] || echo 'user root;'
	cat <<-END
	daemon off;
	pid $D/nginx.pid;
	events { }
	http {
	    access_log off;
	    client_max_body_size 8m;
	END
	for kind in client_body proxy fastcgi uwsgi scgi; do
		echo "${kind}_temp_path $D/tmp;"
	done
	echo "server { listen 127.0.0.1:$WEB;"
	location ours "$PORT"
	location theirs "$PEER"
	echo '} }'
}

location() {
	cat <<-END
	location /$1 {
	    fastcgi_pass 127.0.0.1:$2;
	    fastcgi_param SCRIPT_FILENAME $D/script;
	    fastcgi_param REDIRECT_STATUS 200;
	    fastcgi_param REQUEST_METHOD \$request_method;
	    fastcgi_param CONTENT_TYPE \$content_type;
	    fastcgi_param CONTENT_LENGTH \$content_length;
	    fastcgi_param QUERY_STRING \$query_string;
	}
	END
}

# post NAME: what /NAME makes of $D/body.
post() {
	{
		printf 'POST /%s?a=b HTTP/1.0\r\n' "$1"
		printf 'Content-Type: application/octet-stream\r\n'
		printf 'Content-Length: %d\r\n\r\n' "$(stat -c %s "$D/body")"
		cat "$D/body"
	} | timeout "$DEADLINE" nc 127.0.0.1 "$WEB" | grep -v '^Date:'
}

ours_and_theirs() {
	post ours > "$D/ours"
	post theirs > "$D/theirs"
	cmp "$D/ours" "$D/theirs"
	grep -q "^a=b $(md5sum < "$D/body" | cut -d ' ' -f 1)" "$D/ours"
	"$TOOLS/storm" -c 8 -n 200 -l 0 -T 60000 \
	    -s $'GET /ours?n=1 HTTP/1.0\r\n\r\n' "127.0.0.1:$WEB" > "$D/storm"
	grep -q '^ok=200 ' "$D/storm"
}

@test "fcgiwrap behind nginx: a CGI script answers the same, and under load" {
	need fcgiwrap
	head -c 1000000 /dev/urandom > "$D/body"
	cat > "$D/script" <<-'END'
	#!/bin/sh
	printf 'Content-Type: text/plain\r\n\r\n'
	echo "$QUERY_STRING $(md5sum)"
	END
	chmod 755 "$D/script"
	nginx_for fcgiwrap -f
	ours_and_theirs
}

@test "php-cgi behind nginx: a PHP script answers the same, and under load" {
	need php-cgi
	head -c 1000000 /dev/urandom > "$D/body"
	cat > "$D/script" <<-'END'
	<?php
	echo $_SERVER["QUERY_STRING"], " ",
	    md5(file_get_contents("php://input")), "\n";
	END
	nginx_for php-cgi
	ours_and_theirs
}

@test "cgi-fcgi reaches a resident php-cgi without a web server" {
	need php-cgi cgi-fcgi
	echo '<?php echo "hello";' > "$D/script"
	resident php-cgi
	env -i REQUEST_METHOD=GET REDIRECT_STATUS=200 \
	    "SCRIPT_FILENAME=$D/script" "$(type -P cgi-fcgi)" -bind \
	    -connect "$ADDRESS" > "$D/reply"
	[ "$(tail -n 1 "$D/reply")" = hello ]
}

@test "a script of Python accepts on descriptor 0" {
	cat > "$D/script" <<-'END'
	import os, socket
	listener = socket.socket(fileno=0)
	while True:
	    client, peer = listener.accept()
	    with client, client.makefile("rwb") as stream:
	        stream.write(b"%d %s" % (os.getpid(), stream.readline()))
	END
	resident python3 "$D/script"
	"$TOOLS/storm" -c 8 -n 400 -l 0 -s $'hello\n' "$ADDRESS" > "$D/storm"
	grep -q '^ok=400 ' "$D/storm"
	[[ $(ask hello) == *' hello' ]]
}

@test "nbdkit -f: a disk in its memory is written and read back" {
	need nbdkit nbdcopy
	head -c 8388608 /dev/urandom > "$D/image"
	MAX=1 resident nbdkit -f memory 8M
	nbdcopy "$D/image" "nbd://$ADDRESS"
	nbdcopy "nbd://$ADDRESS" "$D/copy"
	cmp "$D/image" "$D/copy"
}

@test "systemd-socket-proxyd: it passes on to another server" {
	proxy=/usr/lib/systemd/systemd-socket-proxyd
	need tcpserver "$proxy"
	free_ports 1
	background tcpserver -q -H -R -l 0 127.0.0.1 "${PORTS[0]}" cat
	wait_for listening "${PORTS[0]}"
	MAX=1 resident "$proxy" "127.0.0.1:${PORTS[0]}"
	# it forgets the other way when one way ends, so ours stays open
	exec 5<> "/dev/tcp/127.0.0.1/$PORT"
	echo hello >&5
	read -r -t 10 reply <&5
	exec 5>&-
	[ "$reply" = hello ]
}
