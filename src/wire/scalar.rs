//! Integers and byte arrays as they stand in a payload, and the trait every payload body has.

use super::fields::{FieldError, Value, given};
use super::layout::FieldSpec;
use super::payload::DecodeContext;

/// Something of fixed size in a payload.
pub(crate) trait Scalar: Copy {
    const BITS: u32;
    const BYTES: usize = Self::BITS as usize / 8;
    const IS_BYTES: bool;
    const ZERO: Self;

    fn put(&self, out: &mut Vec<u8>);
    /// Reads from exactly `BYTES` bytes; `None` for any other length.
    fn take(bytes: &[u8]) -> Option<Self>;
    fn value(&self) -> Value;
    fn from_value(spec: &FieldSpec, value: &Value) -> Result<Self, FieldError>;
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Scalar for $int {
            const BITS: u32 = <$int>::BITS;
            const IS_BYTES: bool = false;
            const ZERO: Self = 0;

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_ne_bytes());
            }

            fn take(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_ne_bytes)
            }

            fn value(&self) -> Value {
                Value::U64(u64::from(*self))
            }

            fn from_value(spec: &FieldSpec, value: &Value) -> Result<Self, FieldError> {
                let value = number(spec, value)?;
                Self::try_from(value).map_err(|_| FieldError::TooLarge { field: spec.name, value, bits: Self::BITS })
            }
        }
    )*};
}

integers!(u8, u16, u32, u64);

impl<const N: usize> Scalar for [u8; N] {
    const BITS: u32 = N as u32 * 8;
    const IS_BYTES: bool = true;
    const ZERO: Self = [0; N];

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }

    fn value(&self) -> Value {
        Value::Bytes(self.to_vec())
    }

    /// Padding may be given in part, the rest is zero; anything else has to be complete.
    fn from_value(spec: &FieldSpec, value: &Value) -> Result<Self, FieldError> {
        let bytes = bytes(spec, value)?;
        let mut array = [0; N];
        match array.get_mut(..bytes.len()) {
            Some(front) if spec.quiet || bytes.len() == N => front.copy_from_slice(bytes),
            _ => {
                return Err(FieldError::Length {
                    field: spec.name,
                    expected: N,
                    found: bytes.len(),
                    unit: "bytes",
                });
            }
        }
        Ok(array)
    }
}

/// A payload body: one layout's struct.
pub(crate) trait Body: Sized {
    const FIELDS: &'static [FieldSpec];

    fn encode(&self, out: &mut Vec<u8>);
    /// `None` unless `bytes` is exactly one well-formed body, so that encoding gives the same bytes again.
    fn decode(bytes: &[u8], context: DecodeContext) -> Option<Self>;
    fn values(&self) -> Vec<(&'static str, Value)>;
    /// Names were checked before; what is missing is zero.
    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError>;
}

impl<B: Body> Body for Box<B> {
    const FIELDS: &'static [FieldSpec] = B::FIELDS;

    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }

    fn decode(bytes: &[u8], context: DecodeContext) -> Option<Self> {
        B::decode(bytes, context).map(Box::new)
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        (**self).values()
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        B::build(fields).map(Box::new)
    }
}

/// The number in `value`, or an error that names the field.
pub(crate) fn number(spec: &FieldSpec, value: &Value) -> Result<u64, FieldError> {
    value.as_u64().ok_or(FieldError::WrongKind {
        field: spec.name,
        expected: "a number",
        found: value.kind(),
    })
}

/// The bytes in `value`, or an error that names the field.
pub(crate) fn bytes<'a>(spec: &FieldSpec, value: &'a Value) -> Result<&'a [u8], FieldError> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(FieldError::WrongKind {
            field: spec.name,
            expected: "bytes",
            found: value.kind(),
        }),
    }
}

/// The field `name` of `fields` as a `T`, zero when it is not given.
pub(crate) fn fetch<T: Scalar>(
    specs: &[FieldSpec],
    fields: &[(String, Value)],
    name: &'static str,
) -> Result<T, FieldError> {
    let spec = specs
        .iter()
        .find(|spec| spec.name == name)
        .expect("a body asks only for its own fields");
    given(fields, name).map_or(Ok(T::ZERO), |value| T::from_value(spec, value))
}

/// Declares a payload of fixed size: the struct, its field table, codec and access by name come from one list.
///
/// `field ["wire name"]: type => byte-offset Style "doc";`
macro_rules! body {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $field:ident $([$text:literal])? : $ty:ty => $offset:literal $style:ident $doc:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name {
            $( #[doc = $doc] pub $field: $ty, )*
        }

        impl $name {
            /// Bytes on the wire.
            pub const SIZE: usize = 0 $( + <$ty as $crate::wire::scalar::Scalar>::BYTES )*;
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: <$ty as $crate::wire::scalar::Scalar>::ZERO, )* }
            }
        }

        impl $crate::wire::scalar::Body for $name {
            const FIELDS: &'static [$crate::wire::layout::FieldSpec] = &[
                $( $crate::wire::layout::FieldSpec::of::<$ty>(
                    $crate::wire::scalar::body!(@name $field $($text)?),
                    $offset,
                    $crate::wire::layout::Style::$style,
                    $doc,
                ), )*
            ];

            fn encode(&self, out: &mut Vec<u8>) {
                $( $crate::wire::scalar::Scalar::put(&self.$field, out); )*
            }

            fn decode(bytes: &[u8], _: $crate::wire::payload::DecodeContext) -> Option<Self> {
                if bytes.len() != Self::SIZE {
                    return None;
                }
                Some(Self {
                    $( $field: $crate::wire::scalar::Scalar::take(
                        &bytes[$offset..$offset + <$ty as $crate::wire::scalar::Scalar>::BYTES],
                    )?, )*
                })
            }

            fn values(&self) -> Vec<(&'static str, $crate::wire::fields::Value)> {
                vec![ $( (
                    $crate::wire::scalar::body!(@name $field $($text)?),
                    $crate::wire::scalar::Scalar::value(&self.$field),
                ), )* ]
            }

            fn build(
                fields: &[(String, $crate::wire::fields::Value)],
            ) -> Result<Self, $crate::wire::fields::FieldError> {
                Ok(Self {
                    $( $field: $crate::wire::scalar::fetch(
                        Self::FIELDS,
                        fields,
                        $crate::wire::scalar::body!(@name $field $($text)?),
                    )?, )*
                })
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $text:literal) => { $text };
}
pub(crate) use body;
