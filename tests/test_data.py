"The emoji: counts, checksums, split, faults, the build from the packages, and the join of the full set."
import io, json, re, shutil, tarfile
from collections import Counter
import pandas as pd, pytest, torch
from PIL import Image
from diml_nb import data
from diml_nb.core import data_dir, sha256
from diml_nb.data import (DESIGNS, HASHES, RENAMED, Design, ImageSet, distinct, fetch, get_dataset, join_designs, npm_pack, read_package,
                          render_icon, verify)

FOLDER = data_dir()/'emoji'
pytestmark = pytest.mark.filterwarnings('ignore:.*differs from the set of the records')   # the sets made here are their own
NETWORK = 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|network'


@pytest.fixture
def copy(tmp_path):
    "A root folder of its own with a copy of the embedded set."
    shutil.copytree(FOLDER, tmp_path/'root'/'emoji')
    return tmp_path/'root'


@pytest.fixture(scope='session')
def archives(tmp_path_factory):
    "The eight archives, fetched with npm; skips only where npm or its registry cannot be reached."
    if not shutil.which('npm'): pytest.skip('npm is not installed: the packages cannot be fetched')
    folder = tmp_path_factory.mktemp('archives')
    try:
        for design in DESIGNS.values(): npm_pack(design, folder)
    except RuntimeError as error:
        if re.search(NETWORK, str(error)): pytest.skip(f'the npm registry cannot be reached: {error}')
        raise
    return folder


def contents(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


# the set as it is committed

def test_counts():
    emoji = get_dataset()
    assert (len(emoji), len(emoji.classes), len(set(emoji.paths))) == (592, 100, 592)
    assert emoji.label_n.dtype == torch.int64 and set(emoji.label_n.bincount(minlength=100).tolist()) == {5, 6}
    assert Counter(p.stem for p in emoji.paths) == {
        'noto': 100, 'noto-v1': 99, 'fluent-emoji': 100, 'fxemoji': 95, 'twemoji': 100, 'emojione': 98}
    assert all(emoji.classes[label] == p.parent.name for label, p in zip(emoji.label_n, emoji.paths))


def test_folder_holds_what_is_listed():
    listed = set(pd.read_csv(FOLDER/'ATTRIBUTION.csv').path)
    assert {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob('*.png')} == listed
    assert sum(p.stat().st_size for p in FOLDER.rglob('*') if p.is_file()) < 2e6


def test_images():
    pictures = []
    for path in get_dataset().paths:
        image = Image.open(path).convert('RGBA')
        low, high = image.getchannel('A').getextrema()
        assert image.size == (128, 128) and high > 250, path
        pictures.append((low, image.tobytes()))
    assert len({pixels for _, pixels in pictures}) == 592      # no picture twice
    assert sum(low == 0 for low, _ in pictures) > 550          # alpha is kept; a few drawings fill their square


def test_checksums(): assert verify() == 592 and get_dataset().hash == HASHES['emoji']


def test_attribution():
    rows = pd.read_csv(FOLDER/'ATTRIBUTION.csv', keep_default_na=False)
    assert not (rows == '').any().any()
    assert set(rows.licence) == {'Apache-2.0', 'MIT', 'CC-BY-4.0'}
    readme = (FOLDER/'README.md').read_text()
    assert all(author in readme for author in rows.author.unique())


def test_split_by_class():
    emoji = get_dataset()
    train, test = emoji.subset('train'), emoji.subset('test')
    a, b = set(train.label_n.tolist()), set(test.label_n.tolist())
    assert not a & b and len(a) >= 45 and len(b) >= 45 and len(a | b) == 100
    assert len(train) + len(test) == len(emoji)
    assert all(test.classes[label] == p.parent.name for label, p in zip(test.label_n, test.paths))
    halves = pd.read_csv(FOLDER/'classes.csv').groupby(['category', 'split']).size().unstack()
    assert (halves.train == halves.test).all()


def test_classes_are_single_emoji():
    table = pd.read_csv(FOLDER/'classes.csv')
    assert table['class'].is_unique and table.code_point.is_unique
    assert table.code_point.str.fullmatch('U[+][0-9A-F]{4,5}').all()
    number = table.code_point.str[2:].map(lambda digits: int(digits, 16))
    assert not number.between(0x1F1E6, 0x1F1FF).any() and not number.between(0x1F3FB, 0x1F3FF).any()   # flags, skin tones


# ImageSet

def test_hash_does_not_depend_on_the_place(copy):
    assert get_dataset(root=copy).hash == get_dataset().hash
    assert get_dataset(root=copy).subset('test').hash == get_dataset().subset('test').hash != get_dataset().hash


def test_hash_sees_every_part(tmp_path):
    def made(first=b'1', label=(0, 1), split=('train', 'test'), name='b'):
        folder = tmp_path/f'{len(list(tmp_path.iterdir()))}'
        folder.mkdir()
        for file, content in ((f'{name}.png', first), ('c.png', b'2')): (folder/file).write_bytes(content)
        return ImageSet('x', (folder/f'{name}.png', folder/'c.png'), torch.tensor(label), ('p', 'q'), split).hash
    assert made() == made()
    assert len({made(), made(first=b'3'), made(label=(1, 0)), made(split=('test', 'train')), made(name='d')}) == 5


def test_unknown_split():
    with pytest.raises(ValueError, match="no split 'val'.*test.*train"): get_dataset().subset('val')


# faults

def test_unknown_name():
    for call in (get_dataset, verify):
        with pytest.raises(ValueError, match='known: emoji'): call('cub')


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='ATTRIBUTION.csv.*diml data fetch emoji'): get_dataset(root=tmp_path)
    with pytest.raises(FileNotFoundError, match='classes.csv'): fetch(root=tmp_path)
    with pytest.raises(FileNotFoundError, match='emoji_vendors.*ATTRIBUTION.csv.*`diml data fetch emoji_vendors`') as error:
        get_dataset('emoji_vendors', root=tmp_path)
    assert 'git' not in str(error.value)


def test_missing_image_is_named(copy):
    (copy/'emoji'/'owl'/'noto.png').unlink()
    for call in (get_dataset, verify):
        with pytest.raises(FileNotFoundError, match='1 of 592.*owl/noto.png'): call(root=copy)


def test_tampered_image_is_named(copy):
    path = copy/'emoji'/'bus'/'twemoji.png'
    path.write_bytes(path.read_bytes()[:-1] + b'x')
    with pytest.raises(ValueError, match='1 of 592.*bus/twemoji.png'): verify(root=copy)


def test_wrong_checksum_stops_before_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(tarfile, 'open', lambda *args, **kwargs: pytest.fail('the archive was opened'))
    file = tmp_path/DESIGNS['noto'].archive
    file.write_bytes(b'changed on the way')
    with pytest.raises(ValueError) as error: read_package(file, DESIGNS['noto'])
    assert all(part in str(error.value) for part in (file.name, DESIGNS['noto'].sha256, sha256(b'changed on the way')))


def test_npm_missing(copy, monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(RuntimeError, match='Node.js'): fetch('emoji_vendors', root=copy)
    assert get_dataset(root=copy).hash == get_dataset().hash and [p.name for p in copy.iterdir()] == ['emoji']


def test_resvg_missing(copy, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'resvg_py', None)
    with pytest.raises(ImportError, match='pip install resvg-py'): fetch(root=copy)


# the build

def test_render_is_padded_and_the_same_each_time():
    icons = {'width': 10, 'height': 20, 'icons': {'i': {'body': '<path fill="#00f" d="M0 0h10v20H0z"/>'}}}
    png = render_icon(icons, 'i')
    assert png == render_icon(icons, 'i')
    assert Image.open(io.BytesIO(png)).convert('RGBA').getchannel('A').getbbox() == (32, 0, 96, 128)


@pytest.fixture
def small(tmp_path, monkeypatch):
    "Two classes, two designs, archives of our own: the build without a network."
    root, archives, designs = tmp_path/'root', tmp_path/'archives', {}
    (root/'emoji').mkdir(parents=True), archives.mkdir()
    parts = {'icons': {'width': 8, 'height': 8, 'icons': {n: {'body': f'<path fill="{c}" d="M0 0h4v8H0z"/>'} for n, c in (('a', 'red'), ('b', 'blue'))}},
             'chars': {}, 'info': {'author': {'name': 'me'}, 'license': {'spdx': 'MIT'}}}
    for name in ('one', 'two'):
        file = archives/Design(f'@x/{name}', '1', '', '', '').archive
        with tarfile.open(file, 'w:gz') as tar:
            for part, content in parts.items():
                member, text = tarfile.TarInfo(f'package/{part}.json'), json.dumps(content).encode()
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
        designs[name] = Design(f'@x/{name}', '1', sha256(file), 'MIT', 'me')
    monkeypatch.setattr(data, 'DESIGNS', designs)
    (root/'emoji'/'classes.csv').write_text('class,split,one,two\na,train,a,a\nb,test,b,\n')
    (root/'emoji'/'README.md').write_text('kept')
    return root, archives


def test_small_build(small):
    root, archives = small
    fetch(root=root, archives=archives)
    assert set(contents(root)) == {f'emoji/{f}' for f in ('classes.csv', 'README.md', 'ATTRIBUTION.csv', 'a/one.png', 'a/two.png', 'b/one.png')}
    images = get_dataset(root=root)
    assert images.label_n.tolist() == [0, 0, 1] and images.split_n == ('train', 'train', 'test') and verify(root=root) == 3
    before = contents(root)
    fetch(root=root, archives=archives)
    assert contents(root) == before


def test_failure_midway_leaves_the_old_set(small, monkeypatch):
    root, archives = small
    fetch(root=root, archives=archives)
    before, calls = contents(root), []
    def fails(*args):
        calls.append(args)
        if len(calls) == 3: raise OSError('disk full')
        return b'new'
    monkeypatch.setattr(data, 'render_icon', fails)
    with pytest.raises(OSError, match='disk full'): fetch(root=root, archives=archives)
    assert len(calls) == 3 and contents(root) == before and [p.name for p in root.iterdir()] == ['emoji']


def test_failing_rename_brings_the_old_set_back(small, monkeypatch):
    root, archives = small
    fetch(root=root, archives=archives)
    before, rename = contents(root), data.Path.rename
    def fails(self, target):
        if self.name == 'new': raise OSError('busy')
        return rename(self, target)
    monkeypatch.setattr(data.Path, 'rename', fails)
    with pytest.raises(OSError, match='busy'): fetch(root=root, archives=archives)
    assert contents(root) == before


def test_rebuild_is_the_same_to_the_byte(archives, copy):
    shutil.rmtree(copy/'emoji'/'ant')                            # nothing of the old drawings is needed
    fetch(root=copy, archives=archives)
    new, old = contents(copy/'emoji'), contents(FOLDER)
    assert set(new) == set(old)
    differ = [name for name in new if new[name] != old[name]]
    assert not differ, f'{len(differ)} files differ, first {differ[:3]}; are resvg-py and Pillow those of requirements.txt?'


@pytest.fixture(scope='session')
def packs(archives): return {name: read_package(archives/design.archive, design) for name, design in DESIGNS.items()}


def test_facts_are_those_of_the_packages(packs):
    for name, pack in packs.items():
        assert (pack['info']['author']['name'], pack['info']['license']['spdx']) == (DESIGNS[name].author, DESIGNS[name].licence)
        assert bool(pack['chars']) == (name in ('noto', 'twemoji', 'openmoji'))


def test_icons_are_those_of_the_code_points(packs):
    "Where a package lists code points, the icon of classes.csv is the one it lists."
    table = pd.read_csv(FOLDER/'classes.csv', keep_default_na=False)
    for name in DESIGNS.keys() & set(table):
        for code, icon in zip(table.code_point.str[2:].str.lower(), table[name]):
            listed = packs[name]['chars'].get(code, icon)
            assert packs[name]['icons'].get('aliases', {}).get(listed, {'parent': listed})['parent'] == icon, (name, code)


# the full set

def test_join(packs):
    table = join_designs(packs)
    icons = table[[*DESIGNS]]
    assert len(table) == 1083 and table['class'].is_unique and table.code_point.is_unique and table['class'].is_monotonic_increasing
    assert (icons != '').sum().to_dict() == {'noto': 1083, 'noto-v1': 1080, 'fluent-emoji': 1072, 'fxemoji': 493, 'twemoji': 1083,
                                             'emojione': 1079, 'openmoji': 1082, 'emojione-v1': 921}
    assert (icons != '').sum(axis=1).min() == 5
    assert table.code_point.str.fullmatch('U[+][0-9A-F]{4,5}').all() and table['class'].str.fullmatch('[a-z0-9-]+').all()
    assert not any('skin' in name or 'keycap-' in name and name != 'keycap-10' for name in table['class'])
    for name in DESIGNS: assert not icons[name][icons[name] != ''].duplicated().any() and set(icons[name]) - {''} <= packs[name]['icons']['icons'].keys()


def test_join_agrees_with_the_table_checked_by_hand(packs):
    "The icons of the embedded set, up to what it leaves out as near copies."
    hand = pd.read_csv(FOLDER/'classes.csv', dtype=str, keep_default_na=False).set_index('class')
    table = join_designs(packs).set_index('class').loc[hand.index]
    assert (table.code_point == hand.code_point).all()
    differ = [(c, d) for d in DESIGNS.keys() & set(hand) for c in hand.index if table[d][c] != hand[d][c]]
    assert sorted(differ) == [('american-football', 'emojione'), ('light-bulb', 'emojione'), ('tornado', 'noto-v1')]


def test_every_correction_is_needed(packs, monkeypatch):
    table = join_designs(packs).set_index('code_point')
    monkeypatch.setattr(data, 'RENAMED', {})
    naive = join_designs(packs).set_index('code_point')
    for design, names in RENAMED.items():
        places = lambda t, icon: set(t.index[t[design] == icon])
        for icon, name in names.items(): assert places(table, icon) != places(naive, icon) and bool(name) == bool(places(table, icon)), icon


def test_distinct_keeps_the_first_and_leaves_out_copies():
    square = lambda colour, x, w: render_icon({'icons': {'i': {'body': f'<path fill="{colour}" d="M{x} 0h{w}v16h-{w}z"/>'}}}, 'i')
    pngs = {'a': square('#00f', 0, 8), 'turned': square('#00f', 8, 8), 'nearly': square('#00f', 0, 7), 'half': square('#00f', 0, 4),
            'red': square('#f00', 0, 8), 'nothing': square('#fff', 0, 8)}
    assert list(distinct(pngs)) == ['a', 'half', 'red', 'nothing']
    assert list(distinct(dict(reversed(pngs.items())))) == ['nothing', 'red', 'half', 'nearly']    # 1/8 of `a` is missing in it
    assert distinct(pngs, apart=0) == pngs


def test_a_few_classes_of_the_full_set(packs, archives, copy, monkeypatch):
    "The whole way, for the classes in `few` only: all of them take a minute more."
    few = ['bus', 'comet', 'one-oclock', 'owl', 'red-circle', 'tornado', 'volcano', 'zebra']
    table = join_designs(packs)
    monkeypatch.setattr(data, 'join_designs', lambda packs: table[table['class'].isin(few)].copy())
    with pytest.warns(UserWarning, match='differs from the set of the records'): fetch('emoji_vendors', root=copy, archives=archives)
    now = contents(copy/'emoji_vendors')
    fetch('emoji_vendors', root=copy, archives=archives)
    assert contents(copy/'emoji_vendors') == now
    images = get_dataset('emoji_vendors', root=copy)
    assert images.classes == ('bus', 'comet', 'one-oclock', 'owl', 'tornado', 'volcano')    # four red circles are copies of one
    assert verify('emoji_vendors', root=copy) == len(images) == len(now) - 2
    assert not {'comet/noto-v1.png', 'one-oclock/emojione-v1.png', 'tornado/noto-v1.png'} & set(now)
    shared = [p for p in contents(copy/'emoji') if p.split('/')[0] in few]
    assert len(shared) == 22 and all(now[p] == (copy/'emoji'/p).read_bytes() for p in shared)
    side, new_side = (dict(pd.read_csv(copy/name/'classes.csv')[['class', 'split']].values) for name in ('emoji', 'emoji_vendors'))
    assert {c: side.get(c) for c in new_side} == {c: None if c in ('comet', 'one-oclock') else s for c, s in new_side.items()}
    rows = pd.read_csv(copy/'emoji_vendors'/'ATTRIBUTION.csv')
    assert list(rows) == list(pd.read_csv(FOLDER/'ATTRIBUTION.csv')) and set(rows.design) == set(DESIGNS)


@pytest.mark.skipif(not (data_dir()/'emoji_vendors').exists(), reason='the full set is not here; `diml data fetch emoji_vendors` builds it')
def test_full_set_that_was_fetched():
    full, embedded = get_dataset('emoji_vendors'), get_dataset()
    assert (len(full), len(full.classes), full.hash) == (7718, 1077, HASHES['emoji_vendors'])
    assert min(full.label_n.bincount()) == 5 and set(full.subset('train').label_n.tolist()).isdisjoint(full.subset('test').label_n.tolist())
    assert len(full.subset('train').label_n.unique()) == 565
    split = {p.parent.name: s for p, s in zip(full.paths, full.split_n)}
    for path, s in zip(embedded.paths, embedded.split_n):
        assert split[path.parent.name] == s and sha256(path) == sha256(full.paths[0].parents[1]/path.parent.name/path.name)
