
# What clap does not know: names of what there is, where a command asks for one.
_sbx_with_names() {
    _sbx "$@"
    # bash divides words at colons: names of images have some.
    local line=${COMP_LINE:0:COMP_POINT} words names name
    local typed=${line##*[[:space:]]}
    read -ra words <<<"$line"
    [[ -n $typed ]] || words+=("")
    names=$("$1" completion --names -- "${words[@]:1}" 2>/dev/null) || return 0
    COMPREPLY=()
    while IFS= read -r name; do
        [[ -z $name ]] || COMPREPLY+=("$name")
    done <<<"$names"
    if [[ $typed == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${typed%"${typed##*:}"}"}")
    fi
    case $names in
        *:) compopt -o nospace 2>/dev/null ;;
        *) compopt +o default +o bashdefault 2>/dev/null ;;
    esac
    return 0
}

complete -F _sbx_with_names -o bashdefault -o default sbx
