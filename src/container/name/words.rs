//! The words of random names: a friendly adjective and the surname of a scientist, engineer or mathematician.

/// Words that nobody minds to be called.
#[rustfmt::skip]
pub(super) const ADJECTIVES: &[&str] = &[
    "able", "agile", "airy", "alert", "amber", "ample", "apt", "ardent", "artful", "astute", "autumn",
    "balmy", "bold", "bonny", "brave", "breezy", "bright", "brisk", "bubbly", "calm", "candid", "careful",
    "cheery", "civil", "clear", "clever", "coastal", "cosmic", "cosy", "crisp", "curious", "dapper",
    "daring", "deft", "diligent", "eager", "early", "earnest", "easy", "elated", "elegant", "exact", "fair",
    "fearless", "fine", "fleet", "fluent", "fond", "frank", "fresh", "friendly", "frosty", "gallant",
    "genial", "gentle", "gifted", "glad", "gleaming", "golden", "graceful", "grand", "grateful", "happy",
    "hardy", "hearty", "helpful", "honest", "hopeful", "humble", "ideal", "jolly", "jovial", "joyful",
    "keen", "kind", "lively", "logical", "loyal", "lucid", "lucky", "lunar", "mellow", "merry", "mindful",
    "modest", "neat", "nimble", "noble", "open", "patient", "peaceful", "placid", "playful", "polite",
    "precise", "proud", "prudent", "quick", "quiet", "radiant", "ready", "robust", "rosy", "sage", "serene",
    "sharp", "silent", "silver", "sincere", "smart", "snug", "solar", "solid", "spry", "stable", "steady",
    "stellar", "sturdy", "sunny", "supple", "swift", "tactful", "tender", "thorough", "tidy", "tranquil",
    "trusty", "upbeat", "valiant", "vernal", "vivid", "warm", "wise", "witty", "zesty",
];

/// People whose work others build on.
#[rustfmt::skip]
pub(super) const SURNAMES: &[&str] = &[
    "abel", "agnesi", "alhazen", "ampere", "apgar", "archimedes", "aristarchus", "arrhenius", "aryabhata",
    "avicenna", "avogadro", "ayrton", "babbage", "banach", "banneker", "bardeen", "bartik", "becquerel",
    "bell", "benz", "bernoulli", "berzelius", "bessel", "bhabha", "bhaskara", "blackwell", "bode", "bohr",
    "boltzmann", "boole", "born", "bose", "boyle", "brahe", "brahmagupta", "brattain", "brunel", "bunsen",
    "burnell", "cantor", "cardano", "carnot", "carson", "carver", "cassini", "cauchy", "cavendish",
    "celsius", "cerf", "chandrasekhar", "chebyshev", "chern", "church", "clausius", "copernicus",
    "coriolis", "coulomb", "crick", "curie", "daimler", "dalton", "darwin", "davy", "dedekind", "descartes",
    "diesel", "dijkstra", "diophantus", "dirac", "doppler", "easley", "eckert", "edison", "eiffel",
    "einstein", "elion", "engelbart", "eratosthenes", "erdos", "euclid", "euler", "faraday", "fermat",
    "fermi", "feynman", "fibonacci", "fleming", "fourier", "franklin", "fraunhofer", "fresnel", "galileo",
    "galois", "galvani", "gauss", "germain", "gibbs", "godel", "goeppert", "goldberg", "golgi", "goodall",
    "hadamard", "hahn", "halley", "hamilton", "hamming", "harvey", "hawking", "heaviside", "heisenberg",
    "helmholtz", "henry", "herschel", "hertz", "hilbert", "hippocrates", "hodgkin", "hollerith", "hooke",
    "hopper", "hubble", "huffman", "humboldt", "huygens", "hypatia", "jacobi", "jemison", "jenner",
    "johnson", "joliot", "joule", "kalman", "kapitsa", "kare", "karp", "kelvin", "kepler", "khayyam",
    "khorana", "khwarizmi", "kirchhoff", "knuth", "kolmogorov", "kovalevskaya", "lagrange", "lamarr",
    "lamport", "landau", "laplace", "lavoisier", "leavitt", "lebesgue", "legendre", "leibniz", "linnaeus",
    "liskov", "liu", "lobachevsky", "lonsdale", "lorentz", "lovelace", "lumiere", "lyell", "mandelbrot",
    "marconi", "maxwell", "mayer", "mccarthy", "mcclintock", "meitner", "mendel", "mendeleev", "minkowski",
    "mirzakhani", "montalcini", "moore", "morse", "napier", "nash", "newton", "nightingale", "nobel",
    "noether", "oersted", "ohm", "pascal", "pasteur", "pauli", "pauling", "payne", "planck", "poincare",
    "poisson", "ptolemy", "pythagoras", "raman", "ramanujan", "rayleigh", "ride", "riemann", "ritchie",
    "rontgen", "rubin", "rutherford", "sagan", "salk", "sanger", "schrodinger", "seki", "shannon",
    "siemens", "sinoussi", "snell", "somerville", "stephenson", "stokes", "sutherland", "takagi", "telford",
    "tesla", "thales", "tharp", "tomonaga", "torricelli", "tu", "turing", "varahamihira", "vaughan",
    "volta", "wallis", "watt", "weierstrass", "wien", "wiles", "wright", "wu", "yalow", "yonath", "yukawa",
    "zuse",
];
