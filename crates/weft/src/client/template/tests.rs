//! What Go's templates make of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn render(template: &str, value: &Value) -> String {
    Template::parse(template).unwrap().render(value).unwrap()
}

fn fails(template: &str, value: &Value) -> String {
    match Template::parse(template) {
        Ok(template) => template.render(value).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

fn container() -> Value {
    json!({
        "Id": "19edf1697dac", "Name": "/c1", "Path": "httpd", "Args": ["-f", "-p", "80"],
        "State": {"Running": true, "ExitCode": 0, "Pid": 42, "Health": null},
        "Config": {"Labels": {"b": "two", "a": "one"}, "Env": []},
        "NetworkSettings": {"Networks": {"web": {"IPAddress": "10.0.0.2", "Aliases": null}}, "Ports": {"80/tcp": [{"HostPort": "8080"}]}},
        "Ratio": 1.5, "Size": 1_000_000,
    })
}

#[test]
fn fields_print_as_go_prints_them() {
    let c = container();
    for (template, wanted) in [
        ("{{.Id}} {{ .Name }}", "19edf1697dac /c1"),
        // Go's structure has it as ID.
        ("{{.ID}}", "19edf1697dac"),
        ("{{.State.ExitCode}} {{.State.Running}} {{.Ratio}} {{.Size}}", "0 true 1.5 1000000"),
        ("{{.Args}} {{.Config.Labels}} {{.Config.Env}}", "[-f -p 80] map[a:one b:two] []"),
        ("{{.State.Health}}", "<no value>"),
        ("{{json .Config}}", r#"{"Env":[],"Labels":{"a":"one","b":"two"}}"#),
        ("{{.Name | json | printf \"%s!\"}}", "\"/c1\"!"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("a {{- \"x\" -}} b", "axb"),
        ("{{\"a\\tb\\n\"}}{{`c\\t`}}", "a\tb\nc\\t"),
    ] {
        assert_eq!(render(template, &c), wanted, "{template}");
    }
}

#[test]
fn actions_choose_and_repeat() {
    let c = container();
    for (template, wanted) in [
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.ExitCode}}bad{{else if eq .State.Pid 42}}answer{{else}}no{{end}}", "answer"),
        ("{{range .Args}}<{{.}}>{{end}}", "<-f><-p><80>"),
        ("{{range $i, $a := .Args}}{{if $i}},{{end}}{{$i}}={{$a}}{{end}}", "0=-f,1=-p,2=80"),
        (
            "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{.IPAddress}} {{$v.IPAddress}}{{end}}",
            "web 10.0.0.2 10.0.0.2",
        ),
        ("{{range .Config.Env}}x{{else}}none{{end}}", "none"),
        (
            "{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} -> {{(index $conf 0).HostPort}}{{end}}",
            "80/tcp -> 8080",
        ),
        ("{{with .State}}{{.Pid}} {{$.Name}}{{end}}{{with .Config.Env}}x{{else}} -{{end}}", "42 /c1 -"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{$y := 3}}{{end}}{{$x}}", "2"),
        ("{{index .NetworkSettings.Networks \"web\" \"IPAddress\"}}", "10.0.0.2"),
        ("[{{index .Config.Labels \"nosuch\"}}]", "[]"),
        ("{{with index .NetworkSettings.Networks \"web\"}}{{.IPAddress}}{{end}}", "10.0.0.2"),
    ] {
        assert_eq!(render(template, &c), wanted, "{template}");
    }
}

#[test]
fn functions_are_gos_and_dockers() {
    let c = container();
    for (template, wanted) in [
        ("{{upper .Path}} {{lower \"ABC\"}} {{title \"new york\"}}", "HTTPD abc New York"),
        ("{{join .Args \" \"}} {{index (split \"a:b\" \":\") 1}}", "-f -p 80 b"),
        ("{{truncate .Id 4}} [{{pad \"x\" 1 2}}] {{slice .Id 0 3}}", "19ed [ x  ] 19e"),
        ("{{len .Args}} {{len .Name}} {{not .State.Running}}", "3 3 false"),
        ("{{and .State.Running .State.Pid}} {{or .State.ExitCode \"none\"}}", "42 none"),
        ("{{or true .NoSuch}}", "true"),
        (
            "{{eq .Path \"x\" \"httpd\"}} {{ne 1 2}} {{lt 1 2}} {{ge 1 2}} {{gt \"b\" \"a\"}}",
            "true true true false true",
        ),
        (
            "{{printf \"%5d|%-5s|%05.1f|%q|%x|%v|%%\" 42 \"ab\" .Ratio \"q\" 255 .Args}}",
            "   42|ab   |001.5|\"q\"|ff|[-f -p 80]|%",
        ),
        ("{{print 1 2 \"a\" 3}}{{println \"x\" 1}}", "1 2a3x 1\n"),
        ("{{printf \"%d\" \"a\"}}{{printf \"%s\"}}", "%!d(a)%!s(MISSING)"),
        ("{{.Path | upper | printf \"%s-%s\" .Id}}", "19edf1697dac-HTTPD"),
        ("{{0x10}} {{1e3}} {{-1}} {{1_000}}", "16 1000 -1 1000"),
    ] {
        assert_eq!(render(template, &c), wanted, "{template}");
    }
}

#[test]
fn mistakes_are_named() {
    let c = container();
    for (template, wanted) in [
        ("{{.NoSuch}}", "map has no entry for key \"NoSuch\""),
        ("{{.State.Health.Status}}", "nil pointer evaluating interface {}.Status"),
        ("{{.Name.First}}", "can't evaluate field First"),
        ("{{index .Args 3}}", "index out of range: 3"),
        ("{{nosuch .}}", "function \"nosuch\" not defined"),
        ("{{json}}", "wrong number of args for json"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{.Name", "unclosed action"),
        ("{{if .Name}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{\"x}}", "unterminated quoted string"),
        ("{{}}", "missing value for command"),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{template \"x\"}}", "is not supported"),
    ] {
        let text = fails(template, &c);
        assert!(text.contains(wanted), "{template}: {text}");
    }
}

#[test]
fn titles_pass_dockers_functions_as_they_are() {
    let template = Template::parse("{{json .ID}}\t{{lower .Names}}\t{{truncate .Image 2}}").unwrap();
    let titles = json!({"ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE"});
    assert_eq!(template.titles(&titles).unwrap(), "CONTAINER ID\tNAMES\tIMAGE");
}

#[test]
fn depth_has_a_limit() {
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(fails(&deep, &Value::Null).contains("too many levels"));
    let nested = "{{if true}}".repeat(5000);
    assert!(fails(&nested, &Value::Null).contains("too many levels"));
    let chain = format!("{{{{if 1}}}}{}", "{{else if 1}}".repeat(5000));
    assert!(fails(&chain, &Value::Null).contains("too many levels"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = Template::parse(&text).map(|template| template.render(&container()));
    }

    #[test]
    fn no_action_makes_it_panic(words in proptest::collection::vec(
        prop_oneof![
            Just("{{"), Just("}}"), Just("."), Just(".Args"), Just(" "), Just("range"), Just("end"), Just("if"), Just("else"),
            Just("$x"), Just(":="), Just("="), Just(","), Just("|"), Just("("), Just(")"), Just("printf"), Just("\"%5d\""),
            Just("index"), Just("slice"), Just("1"), Just("-"), Just("with"), Just("pad"), Just("{{-"), Just("-}}"), Just("é"),
        ], 0..24))
    {
        let _ = Template::parse(&words.concat()).map(|template| template.render(&container()));
    }
}
