//! What people who know podman and docker type every day, and what they expect to see of it.

use std::time::{Duration, Instant};

use crate::harness::{Background, Sbx, sbx};

fn inspect(world: &Sbx, template: &str) -> String {
    world.sbx(["inspect", "--format", template, "web"]).succeed()
}

#[test]
fn templates_of_scripts_print_what_go_prints() {
    let world = sbx();
    let published = ["--net=slirp4netns", "-p", "127.0.0.1:0:80"];
    let options =
        ["--name=web", "-v", "site:/www", "-v", "/usr:/host-usr:ro", "--label=x=1", "--label=a.b=c"];
    let _web = Background::start(&world, &[&published[..], &options].concat(), "sleep 1000");
    let data = world.store().join("volumes/site/_data");
    assert_eq!(
        inspect(&world, "{{.Mounts}}"),
        format!(
            "[{{volume site {} /www local  [rbind] true rprivate}} {{bind  /usr /host-usr   [rbind] false rprivate}}]",
            data.display()
        )
    );
    assert_eq!(inspect(&world, "{{range .Mounts}}{{.Source}};{{end}}"), format!("{};/usr;", data.display()));
    let port = inspect(&world, "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}");
    assert!(port.parse::<u16>().is_ok_and(|port| port > 0), "{port}");
    for (template, text) in [
        ("{{range .NetworkSettings.Ports}}{{.}}{{end}}", format!("[{{127.0.0.1 {port}}}]")),
        ("{{.NetworkSettings.Ports}}", format!("map[80/tcp:[{{127.0.0.1 {port}}}]]")),
        (
            "{{range $p, $to := .NetworkSettings.Ports}}{{$p}} at {{(index $to 0).HostPort}}{{end}}",
            format!("80/tcp at {port}"),
        ),
        ("{{.HostConfig.RestartPolicy}} {{.Config.ExposedPorts}}", "{no 0} map[80/tcp:{}]".to_owned()),
        ("{{json .Config.Labels}}", r#"{"a.b":"c","x":"1"}"#.to_owned()),
        (
            "{{index .Config.Labels \"x\"}}{{.Config.Labels.x}}{{.Config.Labels.none}}",
            "11<no value>".to_owned(),
        ),
        ("{{.State.ExitCode}} {{.State.Running}} {{.HostConfig.Memory}}", "0 true 0".to_owned()),
        ("{{eq .ID .Id}}", "true".to_owned()),
    ] {
        assert_eq!(inspect(&world, template), text, "{template}");
    }
    let refused = world.sbx(["inspect", "-f", "{{.Config.Lables}}", "web"]).expect_code(125);
    refused.stderr_has("there is no field `Lables`");
}

#[test]
fn a_name_may_be_one_letter() {
    let world = sbx();
    let _one = Background::start(&world, &["--name=w"], "sleep 1000");
    world.sbx(["rename", "w", "v"]).succeed();
    assert_eq!(world.sbx(["ps", "--format", "{{.Names}}"]).succeed(), "v");
    world.sbx(["rm", "-f", "-t0", "v"]).succeed();
}

#[test]
fn events_tell_the_name_that_a_container_has_now() {
    let world = sbx();
    let one = Background::start(&world, &["--name=before", "--rm"], "sleep 1000");
    world.sbx(["rename", "before", "after"]).succeed();
    world.sbx(["kill", "after"]).succeed();
    let _gone = world.sbx(["wait", "--ignore", "--condition=removed", &one.id]).finish();
    // It is told of when the container is gone already.
    let until = Instant::now() + Duration::from_secs(10);
    let told = loop {
        let told = world.sbx(["events", "--stream=false", "--format", "{{.Status}} {{.Name}}"]).succeed();
        if told.contains("remove ") || Instant::now() > until {
            break told;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let last: Vec<&str> = told.lines().skip_while(|line| !line.starts_with("kill")).collect();
    assert_eq!(last, ["kill after", "died after", "remove after"], "{told}");
}

#[test]
fn a_list_shows_pods_and_namespaces() {
    let world = sbx();
    let pod = world.sbx(["pod", "create", "--infra=false", "--share=", "trio"]).succeed();
    let inside = Background::start(&world, &["--name=inside", "--pod=trio"], "sleep 1000");
    let listed = world.sbx(["ps", "--pod"]).succeed();
    let mut lines = listed.lines();
    assert!(lines.next().is_some_and(|line| line.ends_with("POD ID         PODNAME")), "{listed}");
    assert!(lines.next().is_some_and(|line| line.ends_with(&format!("{}   trio", &pod[..12]))), "{listed}");

    let listed = world.sbx(["ps", "--ns"]).succeed();
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][2..], ["NAMES", "PID", "CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "USERNS", "UTS"]);
    let of_the_container = inside.sh(&[], "cd /proc/self/ns; readlink uts; readlink net").succeed();
    let expected = format!("uts:[{}]\nnet:[{}]", rows[1][9], rows[1][6]);
    assert_eq!(of_the_container, expected, "{listed}");
    drop(inside);
    world.sbx(["pod", "rm", "trio"]).succeed();
}
