//! A Dockerfile, from its text to the plan, the steps and the warnings: nothing panics, and every place is in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::build::dockerfile::lint::{Surroundings, check};
use sbx::build::dockerfile::parse::parse;
use sbx::build::dockerfile::plan::plan;
use sbx::build::dockerfile::scope::{Frame, Scope};
use sbx::build::dockerfile::settings::Settings;

fuzz_target!(|text: &str| {
    let Ok(dockerfile) = parse("Dockerfile", text.to_owned()) else { return };
    let settings = Settings::default();
    for stage in &dockerfile.stages {
        assert!(stage.span.end as usize <= text.len());
        for instruction in &stage.instructions {
            assert!(instruction.span.end as usize <= text.len());
            assert!(text.is_char_boundary(instruction.span.start as usize));
            assert!(text.is_char_boundary(instruction.span.end as usize));
            assert!(instruction.span.start < instruction.span.end);
        }
    }
    if let Ok(plan) = plan(&dockerfile, &settings) {
        for (at, stage) in plan.stages.iter().enumerate() {
            let before = |needed: &usize| plan.stages[..at].iter().any(|other| other.index == *needed);
            assert!(stage.needs.iter().all(before), "{plan:?}");
        }
    }
    if let Ok(frame) = Frame::new(&dockerfile, &settings) {
        for stage in &dockerfile.stages {
            let mut scope = Scope::on_image(&frame, ["A=b"]);
            for instruction in &stage.instructions {
                let _ = scope.step(instruction);
            }
        }
    }
    let surroundings = Surroundings { environment: &|_| Some(Vec::new()), ignore: None };
    for warning in check(&dockerfile, &settings, &surroundings).unwrap_or_default() {
        assert!(warning.span.end as usize <= text.len());
    }
});
