# bash completion of flatperf
_flatperf() {
	local word=${COMP_WORDS[COMP_CWORD]}
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "ping-pong under-load throughput connect rate server --help --version" -- "$word")
		return
	fi
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--transport) mapfile -t COMPREPLY < <(compgen -W "kernel flat" -- "$word") ;;
	-F | --iomux-type) mapfile -t COMPREPLY < <(compgen -W "recvfrom poll epoll" -- "$word") ;;
	--mps) mapfile -t COMPREPLY < <(compgen -W "max" -- "$word") ;;
	-[ipmtcb] | --ip | --port | --msg-size | --time | --clients | --burst | --pin | --buffer-size | --reply-every | --hold | --threads | --ready-fd) ;;
	*) mapfile -t COMPREPLY < <(compgen -W "--ip --port --msg-size --transport --iomux-type --epoll --spin --nonblocked --zerocopy --pin --buffer-size --tcp-avoid-nodelay --tcp --no-rdtsc --json --time --clients --burst --mps --reply-every --full-rtt --verify --data-integrity --dontwarmup --hold --threads --ready-fd --help --version" -- "$word") ;;
	esac
}
complete -F _flatperf flatperf
