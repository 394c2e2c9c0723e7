//! `wattgate device write --test` on a live device: what it asks, writes, reads back, restores and counts.

use simulators::faults::Faults;
use simulators::site::Lone;

use super::profiles::{serve, shipped, wattgate};

/// A site file with one charger and a meter.
fn charger_site(folder: &std::path::Path, make: &str, pile: &Lone, meter: &Lone) -> String {
    let text = format!(
        "[site]\nid = 'bench'\n[grid]\nmeter = 'grid'\nlimit_a = 63\nbreaker_a = 63\n\
         [paths]\nstate = 'state'\n\
         [[device]]\nid = 'grid'\nprofile = 'eastron-sdm630'\naddress = 'tcp://{}'\n\
         [[device]]\nid = 'pile'\nprofile = '{make}'\naddress = 'tcp://{}'\nmax_a = 16\nfailsafe_a = 6\n",
        meter.address, pile.address
    );
    let file = folder.join("site.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn the_write_test_asks_writes_reads_back_restores_and_counts() {
    let (pile, meter) = (serve(&shipped("keba-p40")), serve(&shipped("eastron-sdm630")));
    let folder = tempfile::tempdir().unwrap();
    let file = charger_site(folder.path(), "keba-p40", &pile, &meter);
    let setpoint = || pile.shared().with(|world| world.piles[0].setpoint_a);
    pile.shared().with(|world| world.piles[0].write_setpoint(12.0));
    let base = ["device", "write", "pile", "--config", &file, "--test", "--hold-s", "1"];
    // Nothing is written unless the name is typed.
    let (text, code) = wattgate(&base, "yes\n");
    assert!(code == 77 && text.contains("12.00 A → 6.00 A") && text.contains("Nothing"), "{text}");
    assert_eq!(setpoint(), 12.0);
    let (text, code) = wattgate(&base, "pile\n");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("✓ read back") && text.contains("✓ old value written"), "{text}");
    assert!(text.contains("since ever: 2"), "{text}");
    assert_eq!(setpoint(), 12.0);
    // The interlock bounds what a person asks for.
    let (text, code) = wattgate(&[&base[..], &["--value", "40"]].concat(), "pile\n");
    assert!(code == 0 && text.contains("12.00 A → 16.00 A"), "{text}");
    assert!(text.contains("since ever: 4"), "{text}");
    // What the device does not show is written twice, and both count.
    let frozen = Faults { frozen: true, ..Faults::default() };
    pile.shared().set_faults("device", frozen).unwrap();
    let (text, _) = wattgate(&base, "pile\n");
    assert!(text.contains("since ever: 7"), "{text}");
    pile.shared().set_faults("device", Faults::default()).unwrap();
    // A running gateway is the only writer.
    let lock = std::fs::File::create(folder.path().join("state/lock")).unwrap();
    lock.lock().unwrap();
    let (text, code) = wattgate(&base, "pile\n");
    assert!(code == 77 && text.contains("only writer"), "{text}");
    assert_eq!(setpoint(), 12.0);
}

#[test]
fn flash_registers_are_not_written_for_a_test() {
    let (pile, meter) = (serve(&shipped("bender-cc")), serve(&shipped("eastron-sdm630")));
    let folder = tempfile::tempdir().unwrap();
    let file = charger_site(folder.path(), "bender-cc", &pile, &meter);
    std::fs::create_dir(folder.path().join("profiles.d")).unwrap();
    let worn = shipped("bender-cc")
        .replace("settle_ms = 500", "settle_ms = 500\nflash_writes_per_day = 20");
    std::fs::write(folder.path().join("profiles.d/bender-cc.toml"), worn).unwrap();
    let arguments = ["device", "write", "pile", "--config", &file, "--test"];
    let (text, code) = wattgate(&arguments, "pile\n");
    assert!(code == 77 && text.contains("flash"), "{text}");
}
