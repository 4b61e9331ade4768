# The ring over verbs beside ib_write_lat, ib_write_bw and rsocket (rstream), in one run, in turn, in the virtual machine.
# Runs in the guest. Time is the clock's around whole runs, of which the shorter is taken from the longer: perftest's own
# figures come from a cycle counter that an emulated processor does not keep.
# A line for each program and round. How many rounds: /rounds.
hosts 4200
rounds=$(cat /rounds)

now() { cut -d ' ' -f 1 /proc/uptime | tr -d .; } # hundredths of a second
# timed COMMAND...: its time, hundredths of a second
timed() {
	local from
	from=$(now)
	"$@" >/tmp/timed 2>&1 || cat /tmp/timed >&2
	echo $(($(now) - from))
}
# beside PROGRAM COUNT BYTES: one run of an ib_ program, server and client
beside() {
	$1 -d rxe1 -x 1 -F -n $2 -s $3 >/tmp/beside 2>&1 &
	sleep 0.3
	timed $1 -d rxe0 -x 1 -F -n $2 -s $3 10.77.0.2
	wait
}
ring() {
	vm-ring serve rxe1 10.77.0.2 5000 >/tmp/serve &
	sleep 0.3
	vm-ring $1 rxe0 10.77.0.1 10.77.0.2 5000 $2 $3 | grep -v met
	wait
}
rsocket() {
	rstream -b 10.77.0.2 "$@" >/tmp/rsocket 2>&1 &
	sleep 0.3
	rstream -b 10.77.0.1 -s 10.77.0.2 "$@" 2>&1 | tail -n 1
	wait
}

for i in $(seq $rounds); do
	short=$(beside ib_write_lat 100 64)
	long=$(beside ib_write_lat 1100 64)
	echo "ib_write_lat 64 bytes: $(((long - short) * 10000 / 1000 / 2)) us"
	ring lat 1000 64
	echo "rsocket $(rsocket -S 64 -C 1 -I 1000)"
	short=$(beside ib_write_bw 10 1048576)
	long=$(beside ib_write_bw 60 1048576)
	echo "ib_write_bw 1 MiB: $((50 * 105 / (long - short + 1))) MB/s"
	ring bw 50 1048576
	echo "rsocket $(rsocket -S 1048576 -C 50 -I 1)"
done
