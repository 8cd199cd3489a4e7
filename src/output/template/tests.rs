use super::*;
use serde_json::json;

fn row() -> Value {
    json!({
        "ID": "0123456789ab", "Names": "patient_noether", "RunningFor": "2 hours", "Pid": 42, "Rm": true,
        "Ports": ["80/tcp", "443/tcp"], "Labels": {"a.b": "c", "x": "<y>"}, "State": {"Status": "up"}, "None": null,
        "Big": u64::MAX,
        "Label": {"a.b": "c"},
    })
}

fn one(template: &str) -> String {
    Format::parse(template).unwrap().list(&[row()], &[]).unwrap()
}

fn refused(template: &str) -> Error {
    match Format::parse(template) {
        Err(error) => error,
        Ok(format) => match format.list(&[row()], &[]) {
            Err(error) => error,
            Ok(text) => panic!("{template} gave {text}"),
        },
    }
}

#[test]
fn fields_and_functions() {
    for (template, text) in [
        ("{{.ID}}", "0123456789ab\n"),
        ("{{.State.Status}}", "up\n"),
        ("{{json .Ports}}", "[\"80/tcp\",\"443/tcp\"]\n"),
        ("{{json .Labels}}", "{\"a.b\":\"c\",\"x\":\"<y>\"}\n"),
        ("{{json .None}} {{json .Rm}} {{json .Big}}", "null true 18446744073709551615\n"),
        ("{{join .Ports \", \"}}", "80/tcp, 443/tcp\n"),
        ("{{upper .ID}}", "0123456789AB\n"),
        ("{{lower \"ABC\"}}", "abc\n"),
        ("{{title \"two words\"}}", "Two Words\n"),
        ("{{index (split .Names \"_\") 1}}", "noether\n"),
        ("{{split \"ab\" \"\"}}", "[a b]\n"),
        ("{{.Label \"a.b\"}} {{ $.Label `a.b` }}", "c c\n"),
        ("{{if .Label \"x\"}}yes{{else}}no{{end}} {{(.Label \"a.b\") | upper}}", "no C\n"),
        ("{{.Label}} {{.Labels}} {{\".Label x\"}}", "map[a.b:c] map[a.b:c x:<y>] .Label x\n"),
        ("{{truncate .ID 4}}", "0123\n"),
        ("{{truncate .ID 99}}", "0123456789ab\n"),
        ("{{pad .State.Status 2 1}}|", "  up |\n"),
        ("{{len .Ports}}", "2\n"),
        ("{{index .Ports 0}}", "80/tcp\n"),
        ("{{index .Labels \"a.b\"}}", "c\n"),
        ("[{{index .Labels \"none\"}}]", "[]\n"),
        ("{{index .State \"Status\" 0}}", "117\n"),
        ("{{if eq .Pid 42}}yes{{else}}no{{end}}", "yes\n"),
        ("{{range .Ports}}[{{.}}]{{end}}", "[80/tcp][443/tcp]\n"),
        ("{{println .Pid}}", "42\n\n"),
        ("{{.Names | upper | truncate 3 | len}}", ""),
        ("plain", "plain\n"),
    ] {
        if text.is_empty() {
            let error = refused(template);
            assert!(error.causes()[0].contains("expected a number"), "docker's order: {error}");
        } else {
            assert_eq!(one(template), text, "{template}");
        }
    }
}

#[test]
fn json_is_a_document() {
    let format = Format::parse("json").unwrap();
    let rows = [row(), row()];
    let read: Value = serde_json::from_str(&format.list(&rows, &[]).unwrap()).unwrap();
    assert_eq!(read, json!(rows));
    let read: Value = serde_json::from_str(&format.object(&row()).unwrap()).unwrap();
    assert_eq!(read, row());
    assert_eq!(format.list(&[], &[]).unwrap(), "[]\n");
    let line = one("{{json .}}");
    assert_eq!(line.matches('\n').count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), row());
}

#[test]
fn escapes_are_interpreted_outside_of_actions() {
    assert_eq!(one("{{.ID}}\\t{{.Pid}}\\nx\\\\y\\z"), "0123456789ab\t42\nx\\y\\z\n");
    assert_eq!(one("{{join .Ports \"\\n\"}}"), "80/tcp\n443/tcp\n");
    assert_eq!(one("{{\"}}\\t\"}}\\t."), "}}\t\t.\n");
    assert_eq!(one("a\\"), "a\\\n");
}

#[test]
fn tables_have_titles() {
    let format =
        Format::parse("table {{.ID}}\\t{{.RunningFor}}\\t{{upper .State.Status}}\\t{{.Names}}").unwrap();
    let titles = [("ID", "CONTAINER ID")];
    assert_eq!(
        format.list(&[row()], &titles).unwrap(),
        "CONTAINER ID   RUNNING FOR   STATUS   NAMES\n\
         0123456789ab   2 hours       UP       patient_noether\n"
    );
    assert_eq!(format.list(&[], &titles).unwrap(), "CONTAINER ID   RUNNING FOR   STATUS   NAMES\n");
    assert_eq!(
        one("table {{.ID}}: {{.Pid}}\\t{{range .Ports}}{{.}} {{end}}").lines().next().unwrap(),
        "ID: PID            PORTS"
    );
}

/// What gotmpl prints of an action went through a function: nothing else may have changed by that.
#[test]
fn what_prints_is_told_from_what_does_not() {
    for (template, text) in [
        ("{{$x := .Pid}}{{$x}} {{$x = 1}}{{ $x }}", "42 1\n"),
        ("{{range $i, $p := .Ports}}{{$i}}={{$p}};{{end}}", "0=80/tcp;1=443/tcp;\n"),
        ("a  {{- .Pid -}}  b {{- /* c */ -}} d", "a42bd\n"),
        (
            "{{range .Ports}}{{if eq . \"80/tcp\"}}{{continue}}{{else}}{{.}}{{break}}{{end}}{{end}}",
            "443/tcp\n",
        ),
        ("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Pid}}", "<42>\n"),
        (
            "{{with .State}}{{.}}{{end}} {{.None}} {{\"a=b}}\"}} {{.Pid | printf \"%03d\"}}",
            "map[Status:up] <no value> a=b}} 042\n",
        ),
        ("{{-1}}{{- 1 -}}", "-11\n"),
    ] {
        assert_eq!(one(template), text, "{template}");
    }
}

#[test]
fn labels_that_are_not_there_are_no_value() {
    assert_eq!(one("{{.Labels.none}}{{.Labels.x}}"), "<no value><y>\n");
    assert!(refused("{{.Labels.x}}{{.none}}").causes()[0].contains("`none`"));
}

#[test]
fn ids_have_both_of_their_names() {
    let id = |template: &str| Format::parse(template).unwrap().list(&[json!({"Id": "0123"})], &[]).unwrap();
    assert_eq!(id("{{.ID}}{{.Id}}"), "01230123\n");
    assert_eq!(id("table {{.ID}}\\t{{.Id}}"), "ID     ID\n0123   0123\n");
    assert_eq!(id("{{json .}}"), "{\"Id\":\"0123\"}\n");
}

#[test]
fn unknown_fields_are_named() {
    let error = refused("{{.Foo}}");
    assert!(error.message().contains("{{.Foo}}"));
    assert_eq!(error.causes(), ["there is no field `Foo`"]);
    assert!(error.hints()[0].contains("ID, ") && error.hints()[0].contains("Pid"), "{error:?}");
    assert!(refused("{{.State.Foo}}").causes()[0].contains("`Foo`"));
    assert!(refused("table {{.Foo}}").causes()[0].contains("`Foo`"));
}

#[test]
fn unsound_templates_are_refused() {
    for template in [
        "{{",
        "{{.ID",
        "{{.ID}",
        "{{end}}",
        "{{else}}",
        "{{.ID}}{{- end -}}{{.ID}}",
        "{{if}}",
        "{{range .Ports}}",
        "{{nosuch .ID}}",
        "{{\"}}",
        "{{.ID | }}",
        "{{(}}",
        "{{)}}",
        "table",
        "table ",
        "{{index .Ports 9}}",
        "{{join .ID \",\"}}",
        "{{upper .Pid}}",
        "{{upper}}",
        "{{truncate .ID}}",
        "{{template \"x\"}}",
        "{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}",
        "{{range 1000000000}}x{{end}}",
        "{{$x}}",
        "{{.ID.X}}",
    ] {
        let error = refused(template);
        assert!(error.message().contains("--format"), "{template}");
        assert!(!error.causes().is_empty(), "{template}");
    }
}

#[test]
fn deep_templates_do_not_overflow_the_stack() {
    for template in [
        format!("{{{{{}", "(".repeat(60_000)),
        format!("{{{{{}1{}}}}}", "(".repeat(30_000), ")".repeat(30_000)),
        format!("{}{}", "{{if .ID}}".repeat(3000), "{{end}}".repeat(3000)),
        format!("{}{}", "{{- with .ID}}".repeat(2000), "{{end}}".repeat(2000)),
        format!("{{{{if .ID}}}}{}{{{{end}}}}", "{{else if .ID}}".repeat(3000)),
        format!("{{{{if .ID}}}}{}{{{{end}}}}", "{{else with .ID}}".repeat(3000)),
        "x".repeat(100_000),
        "{{".repeat(30_000),
    ] {
        assert!(Format::parse(&template).is_err(), "{}", &template[..20]);
    }
    let nested = |levels| format!("{}x{}", "{{if .ID}}".repeat(levels), "{{end}}".repeat(levels));
    assert_eq!(one(&nested(90)), "x\n");
    for template in
        [nested(200), format!("{{{{{}1{}}}}}", "(".repeat(400), ")".repeat(400)), "{{if .ID}}".repeat(400)]
    {
        let _answer_or_error = Format::parse(&template).map(|format| format.list(&[row()], &[]));
    }
}

#[test]
fn comments_may_contain_quotes() {
    assert_eq!(one("{{/* it's */}}a\\tb"), "a\tb\n");
    assert_eq!(one("{{- /* \"}} */ -}}a\\tb"), "a\tb\n");
}
