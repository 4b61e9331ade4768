# bash completion of flatd
_flatd() {
	local word=${COMP_WORDS[COMP_CWORD]}
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--config | --control | --svids | --access-log | --audit-log) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	--log-level) mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "$word") ;;
	--metrics) mapfile -t COMPREPLY < <(compgen -W "off 127.0.0.1:15020" -- "$word") ;;
	--workers | --confine-port | --wire | --hbone | --verbs | --gateway | --ready-fd) ;;
	*) mapfile -t COMPREPLY < <(compgen -W "--config --control --workers --metrics --wire --hbone --svids --verbs --gateway --confine-port --take-over --access-log --audit-log --check --log-level --ready-fd --help --version" -- "$word") ;;
	esac
}
complete -F _flatd flatd
