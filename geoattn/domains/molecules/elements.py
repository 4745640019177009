"""Chemical symbols by atomic number."""

SYMBOLS: tuple[str, ...] = tuple(
    """X
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
    Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu
    Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr
    Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og""".split()  # noqa: SIM905 - the table reads as a table
)
"""``SYMBOLS[z]`` is the symbol of element ``z``; ``SYMBOLS[0]`` is ``"X"``, an atom of no element."""

NUM_ELEMENTS = len(SYMBOLS)
"""Length of a composition vector that is indexed by atomic number."""


def symbol(z: int) -> str:
    """The chemical symbol of atomic number ``z``."""
    return SYMBOLS[z]


def atomic_number(name: str) -> int:
    """The atomic number of a chemical symbol."""
    return SYMBOLS.index(name)
