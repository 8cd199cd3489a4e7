
# What clap does not know: names of what there is, where a command asks for one.
_sbx_with_names() {
    local -a names
    local found
    if [[ ${words[CURRENT]} != -* ]] && found=$(${words[1]} completion --names -- "${(@)words[2,CURRENT]}" 2>/dev/null); then
        names=(${(f)found})
        if [[ $found == *: ]]; then compadd -S '' -a names; else compadd -a names; fi
        return
    fi
    _sbx "$@"
}
