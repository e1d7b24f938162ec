//! The library, by the part of its API that literals in blocks need (Hyperscan's developer reference, 5.4).

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::fmt::Write;
use std::ptr::{self, NonNull};

use super::{Case, Failed, Literal};

/// Compiled literals. Any number of threads scan with it, each with its own [`Scratch`].
#[derive(Debug)]
pub struct Database {
    raw: NonNull<RawDatabase>,
}

// SAFETY: a database is never written to once it is made (developer reference, "Thread safety").
unsafe impl Send for Database {}
// SAFETY: as above; what a scan writes to is its scratch.
unsafe impl Sync for Database {}

/// What scans of one thread need besides a database. Grows to the largest that it was made to [`Scratch::fit`].
#[derive(Debug, Default)]
pub struct Scratch {
    raw: Option<NonNull<RawScratch>>,
}

// SAFETY: scratch space is bound to no thread; that no two use it at once is `&mut` in `Database::scan`.
unsafe impl Send for Scratch {}

impl Database {
    /// Compiles literals: milliseconds for hundreds.
    ///
    /// # Errors
    /// [`Failed::Refused`]: there are none, one is empty, or they are too many.
    pub fn compile(literals: &[Literal<'_>]) -> Result<Self, Failed> {
        // As expressions of escaped bytes, which the library sees to be literals: its own call for literals takes none that
        // begins with a zero.
        let expressions: Vec<CString> =
            literals.iter().map(|l| escaped(l.bytes)).collect::<Result<_, _>>()?;
        let texts: Vec<*const c_char> = expressions.iter().map(|e| e.as_ptr()).collect();
        let flags: Vec<c_uint> =
            literals.iter().map(|l| SINGLE_MATCH | case_flag(l.case)).collect();
        let count = c_uint::try_from(literals.len())
            .map_err(|_| Failed::Refused("there are too many".to_owned()))?;
        let numbers: Vec<c_uint> = (0..count).collect();
        let mut raw = ptr::null_mut();
        let mut error = ptr::null_mut();
        // SAFETY: the three arrays have `count` elements each, and each text ends with a zero; the library keeps none of them.
        let code = unsafe {
            hs_compile_multi(
                texts.as_ptr(),
                flags.as_ptr(),
                numbers.as_ptr(),
                count,
                MODE_BLOCK,
                ptr::null(),
                &raw mut raw,
                &raw mut error,
            )
        };
        match (code, NonNull::new(raw)) {
            (0, Some(raw)) => Ok(Self { raw }),
            (COMPILER_ERROR, _) => Err(Failed::Refused(take_message(error))),
            (code, _) => Err(Failed::Code(code)),
        }
    }

    /// As bytes, for this version of the library and processors like this one.
    ///
    /// # Errors
    /// [`Failed::Code`]: there is no memory.
    pub fn serialize(&self) -> Result<Vec<u8>, Failed> {
        let mut bytes = ptr::null_mut();
        let mut length = 0;
        // SAFETY: the database lives, and both results are ours to be written to.
        let code =
            unsafe { hs_serialize_database(self.raw.as_ptr(), &raw mut bytes, &raw mut length) };
        if code != 0 || bytes.is_null() {
            return Err(Failed::Code(code));
        }
        // SAFETY: the library says that it allocated `length` bytes there, and it filled them.
        let copy = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) }.to_vec();
        // SAFETY: they are of `malloc`, the library's allocator where none was set, and nobody else has them.
        unsafe { free(bytes.cast()) };
        Ok(copy)
    }

    /// From bytes that [`Database::serialize`] made. The library checks its version, the processor's kind and a CRC; who made the
    /// bytes must be trusted all the same.
    ///
    /// # Errors
    /// [`Failed::Code`]: they are no such bytes.
    pub fn deserialize(bytes: &[u8]) -> Result<Self, Failed> {
        let mut raw = ptr::null_mut();
        // SAFETY: the bytes are read only while the call lasts; the result is ours to be written to.
        let code =
            unsafe { hs_deserialize_database(bytes.as_ptr().cast(), bytes.len(), &raw mut raw) };
        match (code, NonNull::new(raw)) {
            (0, Some(raw)) => Ok(Self { raw }),
            (code, _) => Err(Failed::Code(code)),
        }
    }

    /// Adds the number of each literal that is in `bytes`, each once, in the order of their ends.
    ///
    /// # Errors
    /// [`Failed::Code`]: the scratch was not made to fit, or there are more than 4 GiB of bytes.
    pub fn scan(
        &self,
        bytes: &[u8],
        scratch: &mut Scratch,
        found: &mut Vec<u32>,
    ) -> Result<(), Failed> {
        let Some(space) = scratch.raw else { return Err(Failed::Code(INVALID)) };
        let length = c_uint::try_from(bytes.len()).map_err(|_| Failed::Code(INVALID))?;
        // SAFETY: database and scratch live, and the scratch is only ours; `bytes` has `length` bytes; `take` is given `found`,
        // which nobody else uses while the call lasts.
        let code = unsafe {
            hs_scan(
                self.raw.as_ptr(),
                bytes.as_ptr().cast(),
                length,
                0,
                space.as_ptr(),
                Some(take),
                ptr::from_mut(found).cast(),
            )
        };
        match code {
            0 => Ok(()),
            code => Err(Failed::Code(code)),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: it came from the library, and this is its only owner.
        unsafe { hs_free_database(self.raw.as_ptr()) };
    }
}

impl Scratch {
    /// Makes it large enough for a database, if it is not.
    ///
    /// # Errors
    /// [`Failed::Code`]: there is no memory.
    pub fn fit(&mut self, database: &Database) -> Result<(), Failed> {
        let mut raw = self.raw.map_or(ptr::null_mut(), NonNull::as_ptr);
        // SAFETY: the database lives; the scratch is none yet, or the one that this value owns, and is replaced by what comes back.
        let code = unsafe { hs_alloc_scratch(database.raw.as_ptr(), &raw mut raw) };
        self.raw = NonNull::new(raw);
        match code {
            0 => Ok(()),
            code => Err(Failed::Code(code)),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(raw) = self.raw {
            // SAFETY: it came from the library, and this is its only owner.
            unsafe { hs_free_scratch(raw.as_ptr()) };
        }
    }
}

/// The library's version; `None`: there is none, or this processor is none for it.
pub fn version() -> Option<String> {
    // SAFETY: takes nothing.
    if unsafe { hs_valid_platform() } != 0 {
        return None;
    }
    // SAFETY: takes nothing; what it returns is a constant of the library.
    let version = unsafe { hs_version() };
    if version.is_null() {
        return None;
    }
    // SAFETY: a constant of the library that ends with a zero.
    Some(unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned())
}

/// Called by the library for a literal that it found; pushing to a vector does not unwind: where memory ends the process does.
extern "C" fn take(
    number: c_uint,
    _from: c_ulonglong,
    _to: c_ulonglong,
    _flags: c_uint,
    context: *mut c_void,
) -> c_int {
    // SAFETY: `Database::scan` gives its `&mut Vec<u32>`, and does not use it before the scan ends.
    if let Some(found) = unsafe { context.cast::<Vec<u32>>().as_mut() } {
        found.push(number);
    }
    0
}

/// `\x00\x61` for these bytes.
fn escaped(bytes: &[u8]) -> Result<CString, Failed> {
    let mut text = String::with_capacity(4 * bytes.len());
    for byte in bytes {
        // Of a string it cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
    match bytes.is_empty() {
        true => Err(Failed::Refused("one is empty".to_owned())),
        false => CString::new(text).map_err(|e| Failed::Refused(e.to_string())),
    }
}

fn case_flag(case: Case) -> c_uint {
    match case {
        Case::Exact => 0,
        Case::Either => CASELESS,
    }
}

fn take_message(error: *mut CompileError) -> String {
    // SAFETY: the library left an error of its own there, or nothing.
    let Some(found) = (unsafe { error.as_ref() }) else { return String::new() };
    let message = match found.message.is_null() {
        true => String::new(),
        // SAFETY: a text of the library's that ends with a zero, and lives as long as the error.
        false => unsafe { CStr::from_ptr(found.message) }.to_string_lossy().into_owned(),
    };
    // SAFETY: it came from the library, and nobody uses it behind this.
    unsafe { hs_free_compile_error(error) };
    message
}

#[repr(C)]
#[derive(Debug)]
struct RawDatabase {
    _opaque: [u8; 0],
}

#[repr(C)]
#[derive(Debug)]
struct RawScratch {
    _opaque: [u8; 0],
}

#[repr(C)]
struct CompileError {
    message: *const c_char,
    expression: c_int,
}

type OnMatch =
    extern "C" fn(c_uint, c_ulonglong, c_ulonglong, c_uint, context: *mut c_void) -> c_int;

const CASELESS: c_uint = 1;
const SINGLE_MATCH: c_uint = 8;
const MODE_BLOCK: c_uint = 1;
const INVALID: c_int = -1;
const COMPILER_ERROR: c_int = -4;

unsafe extern "C" {
    fn hs_compile_multi(
        expressions: *const *const c_char,
        flags: *const c_uint,
        ids: *const c_uint,
        elements: c_uint,
        mode: c_uint,
        platform: *const c_void,
        db: *mut *mut RawDatabase,
        error: *mut *mut CompileError,
    ) -> c_int;
    fn hs_free_compile_error(error: *mut CompileError) -> c_int;
    fn hs_free_database(db: *mut RawDatabase) -> c_int;
    fn hs_serialize_database(
        db: *const RawDatabase,
        bytes: *mut *mut c_char,
        length: *mut usize,
    ) -> c_int;
    fn hs_deserialize_database(
        bytes: *const c_char,
        length: usize,
        db: *mut *mut RawDatabase,
    ) -> c_int;
    fn hs_alloc_scratch(db: *const RawDatabase, scratch: *mut *mut RawScratch) -> c_int;
    fn hs_free_scratch(scratch: *mut RawScratch) -> c_int;
    fn hs_scan(
        db: *const RawDatabase,
        data: *const c_char,
        length: c_uint,
        flags: c_uint,
        scratch: *mut RawScratch,
        on_match: Option<OnMatch>,
        context: *mut c_void,
    ) -> c_int;
    fn hs_version() -> *const c_char;
    fn hs_valid_platform() -> c_int;
    fn free(bytes: *mut c_void);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals() -> [Literal<'static>; 3] {
        [
            Literal { bytes: b"\x00\xff.*", case: Case::Exact },
            Literal { bytes: b"Host", case: Case::Either },
            Literal { bytes: b"Host", case: Case::Exact },
        ]
    }

    fn found(database: &Database, bytes: &[u8]) -> Vec<u32> {
        let mut scratch = Scratch::default();
        scratch.fit(database).unwrap();
        let mut found = Vec::new();
        database.scan(bytes, &mut scratch, &mut found).unwrap();
        found.sort_unstable();
        found
    }

    #[test]
    fn literals_of_any_byte_are_found_in_either_case_or_their_own() {
        let database = Database::compile(&literals()).unwrap();
        assert_eq!(found(&database, b"host: a \x00\xff.* hOST"), [0, 1]);
        assert_eq!(found(&database, b"Host: a \x00\xff.. Host"), [1, 2]);
        assert_eq!(found(&database, b""), [0_u32; 0]);
    }

    #[test]
    fn a_database_is_the_same_after_it_was_bytes_and_other_bytes_are_none() {
        let bytes = Database::compile(&literals()).unwrap().serialize().unwrap();
        assert_eq!(found(&Database::deserialize(&bytes).unwrap(), b"HOST"), [1]);
        let mut broken = bytes.clone();
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        assert!(Database::deserialize(&broken).is_err());
        assert!(Database::deserialize(&bytes[..40]).is_err());
        assert!(Database::deserialize(b"").is_err());
    }

    #[test]
    fn no_literals_are_refused_and_a_scan_without_scratch_fails() {
        assert!(matches!(Database::compile(&[]), Err(Failed::Refused(_))));
        let database = Database::compile(&literals()).unwrap();
        let failed = database.scan(b"a", &mut Scratch::default(), &mut Vec::new());
        assert_eq!(failed, Err(Failed::Code(INVALID)));
    }
}
