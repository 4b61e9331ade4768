# bash completion of flatctl
_flatctl() {
	local word=${COMP_WORDS[COMP_CWORD]}
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--control | check) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	*) mapfile -t COMPREPLY < <(compgen -W "ls top why check reload version --control --json --once --help --version" -- "$word") ;;
	esac
}
complete -F _flatctl flatctl
