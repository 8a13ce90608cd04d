#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = rafka_fuzz::targets::group_log(data);
});
