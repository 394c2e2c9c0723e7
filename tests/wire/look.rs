//! `wattgate look` and `wattgate check` as a user calls them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use simulators::physics::World;
use simulators::picture::{Scene, jpeg};
use simulators::scenario::Scenario;

fn wattgate(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattgate"));
    command.args(arguments).args(paths).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.output().expect("wattgate runs")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

#[test]
fn a_folder_is_judged_frame_by_frame_and_broken_files_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::of(&World::new(Scenario::one_pile(), 1));
    let bays: Vec<Value> = (0..4)
        .map(|i| serde_json::json!({"id": scene.slots[i].id, "poly": scene.polygon(i)}))
        .collect();
    std::fs::write(folder.path().join("a.jpg"), jpeg(&scene).unwrap()).unwrap();
    scene.slots[0].car = None;
    scene.slots[1].car = Some(3);
    std::fs::write(folder.path().join("b.jpg"), jpeg(&scene).unwrap()).unwrap();
    let mut broken = jpeg(&scene).unwrap();
    broken.truncate(200);
    std::fs::write(folder.path().join("c.jpg"), broken).unwrap();
    std::fs::write(folder.path().join("d.jpg"), "this is text").unwrap();
    let file = folder.path().join("bays.json");
    std::fs::write(&file, serde_json::to_string(&bays).unwrap()).unwrap();
    let bays = file.to_str().unwrap();
    let output = wattgate(&["look", "--format", "json", "--bays", bays], &[folder.path()]);
    assert_eq!(output.status.code(), Some(1), "two files are broken");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("c.jpg") && errors.contains("d.jpg"), "{errors}");
    let judged = lines(&output);
    assert_eq!(judged.len(), 2);
    let states = |line: &Value| -> Vec<String> {
        let bays = line["bays"].as_array().unwrap();
        bays.iter().map(|bay| bay["state"].as_str().unwrap().to_owned()).collect()
    };
    assert!(judged[0]["source"].as_str().unwrap().ends_with("a.jpg"));
    assert_eq!(states(&judged[0])[..2], ["occupied", "free"]);
    assert_eq!(states(&judged[1])[..2], ["free", "occupied"]);
    for line in &judged {
        for key in ["fire", "smoke"] {
            assert!((0.0..=1.0).contains(&line[key].as_f64().unwrap()), "{line}");
        }
        assert_eq!(line["tier"], "small");
        // A picture has no time: nobody knows what stirs in it.
        assert!(line["alone"] == true && line["stirs_s"].is_null(), "{line}");
        assert!(line["cpu_ms"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn check_answers_with_place_hint_and_exit_code_in_both_languages() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    std::fs::write(&file, "[site]\nid = \"x\"\nmodes = \"auto\"\n[grid]\nmeter = \"m\"\nlimit_a = 70\nbreaker_a = 63\n").unwrap();
    for (lang, word) in [("en", "did you mean `mode`?"), ("zh", "是否想写“mode”？")] {
        let output = wattgate(&["check", "--lang", lang], &[&file]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains("site.toml:3:1:") && text.contains(word), "{text}");
        assert!(text.contains("WG0020"), "{text}");
    }
    let run = wattgate(&["run", "--config"], &[&file]);
    assert_eq!(run.status.code(), Some(78), "{}", String::from_utf8_lossy(&run.stderr));
}
