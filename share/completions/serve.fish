complete -c serve -l python -d 'Python interpreter or virtual environment of the application' -r
complete -c serve -l chdir -d 'Change to this directory before loading the application' -r
complete -c serve -l pythonpath -d 'Directories to look in first for modules' -r
complete -c serve -s e -l env -d 'Set an environment variable for the application; repeatable' -r
complete -c serve -s b -l bind -d 'Listen on HOST:PORT or unix:PATH; repeatable [default: 127.0.0.1:8000]' -r
complete -c serve -l backlog -d 'Connections that may wait to be accepted [default: 2048]' -r
complete -c serve -l unix-socket-mode -d 'Permissions of a unix socket, in octal [default: 0660]' -r
complete -c serve -s w -l workers -d 'Worker processes; auto is 2 x cores + 1 [default: auto]' -r
complete -c serve -s p -l pid -d 'Write the master\'s process id to this file' -r
complete -c serve -s n -l name -d 'What ps and top call the processes' -r
complete -c serve -l max-surge -d 'Workers that a reload may start beyond the number asked for [default: 1]' -r
complete -c serve -s k -l worker-class -d 'How a worker runs the application: sync, threads or async [default: sync]' -r
complete -c serve -l threads -d 'Requests at the same time in a worker of class threads [default: 1]' -r
complete -c serve -l thread-stack-size -d 'Stack of each of those threads [default: 0]' -r
complete -c serve -l worker-connections -d 'Requests that an async worker may have at once [default: 1000]' -r
complete -c serve -l max-requests -d 'Replace a worker after this many requests; 0 is never [default: 0]' -r
complete -c serve -l max-requests-jitter -d 'Add up to this many requests, at random, for each worker [default: 0]' -r
complete -c serve -l max-worker-age -d 'Replace a worker that is this old; 0 is never [default: 0]' -r
complete -c serve -l max-rss -d 'Replace a worker that holds this much memory; 0 is never [default: 0]' -r
complete -c serve -s u -l user -d 'Run the application as this user' -r
complete -c serve -s g -l group -d 'Run the application as this group' -r
complete -c serve -s m -l umask -d 'Permissions that new files do not get, in octal' -r
complete -c serve -s t -l timeout -d 'Limit of a request (sync) or of a worker\'s silence; 0 is never [default: 30]' -r
complete -c serve -l request-timeout -d 'End a request that takes this long with 504; 0 is never [default: 0]' -r
complete -c serve -l graceful-timeout -d 'Time to finish requests at a stop or reload [default: 30]' -r
complete -c serve -l drain-delay -d 'Keep accepting for this long after TERM [default: 0]' -r
complete -c serve -l keep-alive -d 'Keep idle connections this long; 0 closes at once [default: 75]' -r
complete -c serve -l header-timeout -d 'Time for a client to send a request\'s head [default: 20]' -r
complete -c serve -l write-timeout -d 'Time for a client to take more of a response [default: 60]' -r
complete -c serve -l boot-timeout -d 'Time for a worker to load the application [default: 60]' -r
complete -c serve -l limit-request-line -d 'Longest request line; 0 is unlimited [default: 4094]' -r
complete -c serve -l limit-request-fields -d 'Most header fields of a request; 0 is unlimited [default: 100]' -r
complete -c serve -l limit-request-field-size -d 'Longest header field; 0 is unlimited [default: 8190]' -r
complete -c serve -l max-body-size -d 'Largest body, as in 10M; 0 is unlimited [default: 0]' -r
complete -c serve -l queue-limit -d 'Most requests that may wait for a worker; 0 is unlimited [default: 0]' -r
complete -c serve -l queue-timeout -d 'Longest wait of a request for a worker; 0 is unlimited [default: 0]' -r
complete -c serve -l certfile -d 'Serve https with the certificate in this file (PEM)' -r
complete -c serve -l keyfile -d 'The private key of the certificate (PEM)' -r
complete -c serve -l ca-certs -d 'Who vouches for clients: certificates of authorities (PEM)' -r
complete -c serve -l cert-reqs -d 'Whether clients need a certificate: 0 no, 1 optional, 2 yes [default: 0]' -r
complete -c serve -l forwarded-allow-ips -d 'Trusted proxies, as in 10.0.0.0/8; * trusts everybody [default: 127.0.0.1,::1]' -r
complete -c serve -l trust-forwarded -d 'Take the client\'s address, scheme and host from N proxies [default: 0]' -r
complete -c serve -l forwarded-style -d 'Which headers trust_forwarded reads [default: x-forwarded]' -r
complete -c serve -l secure-scheme-headers -d 'Headers of trusted proxies that tell https, and how [default: X-FORWARDED-PROTOCOL=ssl,X-FORWARDED-PROTO=https,X-FORWARDED-SSL=on]' -r
complete -c serve -l forwarder-headers -d 'Headers with an underscore that trusted proxies may send [default: SCRIPT_NAME,PATH_INFO]' -r
complete -c serve -l header-map -d 'What becomes of other headers with an underscore [default: drop]' -r
complete -c serve -l proxy-protocol -d 'Connections begin with the PROXY protocol: v1, v2, auto [default: off]' -r
complete -c serve -l proxy-allow-from -d 'Who speaks the PROXY protocol; * is everybody [default: 127.0.0.1,::1]' -r
complete -c serve -l access-logfile -d 'Log each request to this file; - is stdout' -r
complete -c serve -l access-logformat -d 'What a line of the access log says; json for JSON [default: %(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"]' -r
complete -c serve -l access-log-skip -d 'Log no request like this, as in path=/healthz' -r
complete -c serve -l access-log-sample -d 'Log one request in N [default: 1]' -r
complete -c serve -l error-logfile -d 'Log the server\'s messages to this file; - is stderr [default: -]' -r
complete -c serve -l log-level -d 'trace, debug, info, warning, error or critical [default: info]' -r
complete -c serve -l log-format -d 'Form of the server\'s messages: text or json [default: text]' -r
complete -c serve -l log-config -d 'Set up Python\'s logging from this file, as fileConfig does' -r
complete -c serve -l log-config-json -d 'Set up Python\'s logging from this JSON file' -r
complete -c serve -l log-config-dict -d 'Set up Python\'s logging, as dictConfig does' -r
complete -c serve -l log-syslog-to -d 'Where syslog listens: udp://HOST:PORT, tcp://, unix://PATH [default: udp://localhost:514]' -r
complete -c serve -l log-syslog-prefix -d 'Part of the name in syslog' -r
complete -c serve -l log-syslog-facility -d 'Facility for syslog [default: user]' -r
complete -c serve -l statsd-host -d 'Send metrics to this statsd, as in localhost:8125' -r
complete -c serve -l statsd-prefix -d 'What the metrics\' names begin with' -r
complete -c serve -l dogstatsd-tags -d 'Tags for DogStatsD, as in env:prod,region:eu' -r
complete -c serve -l reload-extra-file -d 'Reload when this file changes, too; repeatable' -r
complete -c serve -l asgi-loop -r
complete -c serve -l asgi-lifespan -r
complete -c serve -l asgi-disconnect-grace-period -r
complete -c serve -l websocket-max-message-size -r
complete -c serve -l root-path -r
complete -c serve -l http-parser -r
complete -c serve -l reload-engine -r
complete -c serve -l worker-tmp-dir -r
complete -c serve -l paste -r
complete -c serve -l paste-global -r
complete -c serve -l protocol -r
complete -c serve -l uwsgi-allow-from -r
complete -c serve -l logger-class -r
complete -c serve -l ssl-version -r
complete -c serve -l ciphers -r
complete -c serve -l http-protocols -r
complete -c serve -l http2-cleartext -r
complete -c serve -l http2-max-concurrent-streams -r
complete -c serve -l http2-initial-window-size -r
complete -c serve -l http2-max-frame-size -r
complete -c serve -l http2-max-header-list-size -r
complete -c serve -l control-socket -r
complete -c serve -l control-socket-mode -r
complete -c serve -l dirty-app -r
complete -c serve -l dirty-workers -r
complete -c serve -l dirty-timeout -r
complete -c serve -l dirty-threads -r
complete -c serve -l dirty-graceful-timeout -r
complete -c serve -s c -l config -d 'Read settings from this config file, or from python:MODULE' -r
complete -c serve -l preload -d 'Load the application once, before workers are forked'
complete -c serve -l no-preload -d 'Load the application once, before workers are forked'
complete -c serve -s D -l daemon -d 'Run in the background'
complete -c serve -l no-daemon -d 'Run in the background'
complete -c serve -l initgroups -d 'Also be in all groups that the user is a member of'
complete -c serve -l no-initgroups -d 'Also be in all groups that the user is a member of'
complete -c serve -l request-id -d 'Give each request a name, for logs'
complete -c serve -l no-request-id -d 'Give each request a name, for logs'
complete -c serve -l capture-output -d 'Write what the application prints to the error log'
complete -c serve -l no-capture-output -d 'Write what the application prints to the error log'
complete -c serve -l log-syslog -d 'Send the logs to syslog as well'
complete -c serve -l no-log-syslog -d 'Send the logs to syslog as well'
complete -c serve -l disable-redirect-access-to-syslog -d 'Keep the access log out of syslog'
complete -c serve -l no-disable-redirect-access-to-syslog -d 'Keep the access log out of syslog'
complete -c serve -l reload -d 'Reload when a source file changes'
complete -c serve -l no-reload -d 'Reload when a source file changes'
complete -c serve -l spew
complete -c serve -l no-sendfile
complete -c serve -l reuse-port
complete -c serve -l permit-obsolete-folding
complete -c serve -l strip-header-spaces
complete -c serve -l permit-unconventional-http-method
complete -c serve -l permit-unconventional-http-version
complete -c serve -l casefold-http-method
complete -c serve -s R -l enable-stdio-inheritance
complete -c serve -l enable-backlog-metric
complete -c serve -l suppress-ragged-eofs
complete -c serve -l do-handshake-on-connect
complete -c serve -l no-control-socket
complete -c serve -l check-config -d 'Load the configuration and the application, then stop'
complete -c serve -l print-config -d 'Show every setting, its value and where that came from, then stop'
complete -c serve -s v -l version -d 'Show the version'
complete -c serve -s h -l help -d 'Show the options that most need'
complete -c serve -l help-all -d 'Show all options'
