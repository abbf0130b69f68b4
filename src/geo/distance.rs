//! Distance between two points of the earth, taken as a sphere (within 0.6 % of the true figure).
//!
//! With `libm`, so that nodes on different platforms order regions alike.

use super::Coordinates;

/// Mean radius of the earth, IUGG.
const EARTH_RADIUS_KM: f64 = 6371.0088;

/// Great-circle distance in kilometres (haversine); 0 to about 20 015.
pub fn distance_km(from: Coordinates, to: Coordinates) -> f64 {
    let latitudes = (from.latitude.to_radians(), to.latitude.to_radians());
    let north = libm::sin((latitudes.1 - latitudes.0) / 2.0);
    let east = libm::sin((to.longitude - from.longitude).to_radians() / 2.0);
    let haversine = north * north + libm::cos(latitudes.0) * libm::cos(latitudes.1) * east * east;
    // Rounding can lift antipodes above 1, of which there is no arc sine.
    2.0 * EARTH_RADIUS_KM * libm::asin(libm::sqrt(haversine.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(latitude: f64, longitude: f64) -> Coordinates {
        Coordinates { latitude, longitude }
    }

    #[test]
    fn known_distances() {
        let half_round = std::f64::consts::PI * EARTH_RADIUS_KM;
        for (name, from, to, km, within) in [
            ("London-New York", at(51.5074, -0.1278), at(40.7128, -74.0060), 5570.0, 10.0),
            ("Frankfurt-Singapore", at(50.1109, 8.6821), at(1.3521, 103.8198), 10_260.0, 20.0),
            ("Sydney-Auckland", at(-33.8688, 151.2093), at(-36.8485, 174.7633), 2156.0, 5.0),
            ("over the date line", at(0.0, 179.5), at(0.0, -179.5), 111.2, 0.1),
            ("over the pole", at(89.5, 0.0), at(89.5, 180.0), 111.2, 0.1),
            ("one pole, two longitudes", at(90.0, 10.0), at(90.0, -120.0), 0.0, 1e-6),
            ("pole to pole", at(90.0, 0.0), at(-90.0, 77.0), half_round, 1e-6),
            ("antipodes", at(40.0, -74.0), at(-40.0, 106.0), half_round, 1e-3),
            ("the same place", at(12.3, 45.6), at(12.3, 45.6), 0.0, 0.0),
        ] {
            let found = distance_km(from, to);
            assert!((found - km).abs() <= within, "{name}: {found}");
        }
    }

    proptest! {
        #[test]
        fn is_symmetric_and_bounded(a in -90.0..=90.0, b in -180.0..=180.0, c in -90.0..=90.0, d in -180.0..=180.0) {
            let there = distance_km(at(a, b), at(c, d));
            prop_assert!((0.0..=20_016.0).contains(&there), "{}", there);
            prop_assert!((there - distance_km(at(c, d), at(a, b))).abs() < 1e-6);
        }
    }
}
