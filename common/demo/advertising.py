"""A small grammar of Chinese advertisements for clothes, in AdvertiseGen's format.

A row's input is ``属性#值*属性#值…``, its output a text of two to five sentences that words every attribute once: an
opening names the kind of garment, each further sentence words one to three attributes, a closing may follow. All
randomness comes from ``draw``, a function that returns floats in [0, 1).

    python scripts/make_demo_data.py advertisegen [--seed 1] [--output data/demo]
"""

import os
import random
from collections.abc import Sequence

from common.demo.grammar import Draw, pick, shuffled
from common.files import write_json_lines

COUNTS = {"train": 800, "dev": 40, "test": 40}

KINDS = {"上衣": "衣样式", "裙": "裙型", "裤": "裤型"}
STYLES = {"上衣": ("衬衫", "卫衣", "外套", "毛衣", "风衣"), "裙": ("百褶裙", "鱼尾裙", "背带裙", "半身裙", "大摆裙"),
          "裤": ("阔腿裤", "直筒裤", "小脚裤", "背带裤", "哈伦裤")}
GARMENTS = {"上衣": ("上衣", "衣服"), "裙": ("裙子", "裙装"), "裤": ("裤子", "裤装")}
VALUES = {
    "版型": ("宽松", "修身", "显瘦", "合身"),
    "材质": ("棉", "牛仔布", "针织", "雪纺", "羊毛", "丝绸", "亚麻"),
    "颜色": ("白色", "黑色", "红色", "蓝色", "粉色", "绿色", "灰色", "黄色"),
    "风格": ("简约", "复古", "清新", "休闲", "文艺", "甜美", "街头", "通勤"),
    "图案": ("条纹", "格子", "印花", "刺绣", "碎花", "字母", "波点"),
}
PARTS = {"上衣": {"衣领型": ("圆领", "翻领", "立领", "v领"), "衣袖长": ("长袖", "短袖", "七分袖")},
         "裙": {"裙长": ("短裙", "中长裙", "长裙"), "裙腰型": ("高腰", "松紧腰")},
         "裤": {"裤长": ("九分裤", "长裤", "短裤"), "裤腰型": ("高腰", "松紧腰")}}
SHARES = {"版型": 0.5, "材质": 0.6, "颜色": 0.6, "风格": 0.6, "图案": 0.5}

_MATERIALS = {"棉": ("柔软亲肤", "吸汗透气"), "牛仔布": ("耐磨有型", "硬朗挺括"), "针织": ("弹性十足", "温暖柔软"),
              "雪纺": ("轻盈飘逸", "清凉透气"), "羊毛": ("保暖厚实", "细腻温暖"), "丝绸": ("顺滑有光泽", "垂坠感十足"),
              "亚麻": ("自然透气", "清爽干燥")}
_CUTS = {"宽松": ("不挑身材", "包容各种体型", "穿着自在"), "修身": ("勾勒身材曲线", "凸显腰身"),
         "显瘦": ("遮住小肚腩", "拉长身材比例"), "合身": ("贴合身体线条", "不紧也不松")}
_COLORS = {"白色": ("干净纯洁", "清爽百搭"), "黑色": ("经典百搭", "沉稳大气"), "红色": ("热情亮眼", "衬托好气色"),
           "蓝色": ("沉静优雅", "像天空一样清澈"), "粉色": ("温柔可爱", "充满少女心"), "绿色": ("充满生机", "清新自然"),
           "灰色": ("低调内敛", "高级耐看"), "黄色": ("明亮活泼", "十分吸睛")}
_MOODS = {"简约": ("简单大方", "没有多余的装饰"), "复古": ("带着旧时光的味道", "怀旧又迷人"),
          "清新": ("像春风一样舒服", "让人眼前一亮"), "休闲": ("轻松自在", "适合周末出游"),
          "文艺": ("充满书卷气", "安静又有内涵"), "甜美": ("可爱动人", "减龄效果很好"),
          "街头": ("个性十足", "潮流感满满"), "通勤": ("上班也得体", "干练利落")}
_PATTERNS = {"条纹": ("拉长视觉比例", "有层次感"), "格子": ("带来学院气息", "经典不过时"),
             "印花": ("丰富了画面", "增添一份活力"), "刺绣": ("做工精细", "尽显匠心"),
             "碎花": ("浪漫温柔", "点缀出田园气息"),
             "字母": ("时髦有趣", "打破单调"), "波点": ("俏皮灵动", "充满童趣")}
_NECKS = {"圆领": "修饰脸型", "翻领": "精神利落", "立领": "挡风又有型", "v领": "露出锁骨"}
_SLEEVES = {"长袖": "温暖实用", "短袖": "清凉舒适", "七分袖": "显得手臂纤细"}
_LENGTHS = {"短裙": "露出修长的双腿", "中长裙": "遮住大腿的赘肉", "长裙": "走起路来摇曳生姿",
            "九分裤": "露出纤细的脚踝", "长裤": "显得双腿笔直", "短裤": "清凉又有活力"}
_WAISTS = {"高腰": ("提高腰线", "拉长腿部比例"), "松紧腰": ("穿脱方便", "久坐也不勒")}


def draw_input(draw: Draw) -> list[tuple[str, str]]:
    """Returns the attributes of a garment, ``[(name, value)]`` in AdvertiseGen's order: three of them or more."""
    while True:
        kind = pick(draw, tuple(KINDS))
        attributes = [("类型", kind)]
        for name, share in SHARES.items():
            if draw() < share:
                attributes.append((name, pick(draw, VALUES[name])))
        if draw() < 0.7:
            attributes.append((KINDS[kind], pick(draw, STYLES[kind])))
        for name, values in PARTS[kind].items():
            if draw() < 0.4:
                attributes.append((name, pick(draw, values)))
        if len(attributes) >= 4:
            return attributes


def written(attributes: Sequence[tuple[str, str]]) -> str:
    """Returns attributes in AdvertiseGen's form: ``类型#上衣*材质#棉``."""
    return "*".join(f"{name}#{value}" for name, value in attributes)


def clause(draw: Draw, name: str, value: str) -> str:
    """Returns a clause that words one attribute."""
    if name == "材质":
        return pick(draw, ("采用{0}面料，{1}", "选用优质的{0}材质，{1}", "{0}的质地{1}")).format(
            value, pick(draw, _MATERIALS[value]))
    if name == "版型":
        return pick(draw, ("{0}的版型{1}", "{0}的剪裁{1}", "版型{0}，{1}")).format(value, pick(draw, _CUTS[value]))
    if name == "颜色":
        return pick(draw, ("{0}的色调{1}", "{1}的{0}", "整体以{0}为主，{1}")).format(value, pick(draw, _COLORS[value]))
    if name == "风格":
        return pick(draw, ("{0}的风格{1}", "整体走{0}路线，{1}", "{0}的设计{1}")).format(
            value, pick(draw, _MOODS[value]))
    if name == "图案":
        return pick(draw, ("{0}图案{1}", "搭配{0}元素，{1}", "衣身上的{0}{1}")).format(
            value, pick(draw, _PATTERNS[value]))
    if name in ("裙腰型", "裤腰型"):
        return pick(draw, ("{0}的设计{1}", "{0}款式，{1}")).format(value, pick(draw, _WAISTS[value]))
    reason = {**_NECKS, **_SLEEVES, **_LENGTHS}[value]
    return pick(draw, ("{0}的设计{1}", "经典的{0}，{1}")).format(value, reason)


def opening(draw: Draw, noun: str, first: str) -> str:
    """Returns the first sentence, which names the garment and words one attribute."""
    return pick(draw, ("这款{0}，{1}。", "这件{0}，{1}。", "推荐给你的这款{0}，{1}。",
                       "喜欢{0}的你，不要错过这一款，{1}。", "一款让人心动的{0}，{1}。")).format(noun, first)


def closing(draw: Draw, noun: str) -> str:
    """Returns a last sentence without an attribute."""
    return pick(draw, ("穿上它，让你成为人群中的焦点。", "无论上班还是约会都很合适。", "是衣柜里不可缺少的单品。",
                       "轻松穿出好身材。", "日常搭配这款{0}非常方便。", "让你自信地度过每一天。")).format(noun)


def advertisement(draw: Draw, attributes: Sequence[tuple[str, str]]) -> str:
    """Returns one text for the attributes of ``draw_input``."""
    values = dict(attributes)
    kind = values["类型"]
    noun = values.get(KINDS[kind]) or pick(draw, GARMENTS[kind])
    clauses = [clause(draw, name, value) for name, value in
               shuffled(draw, [pair for pair in attributes if pair[0] not in ("类型", KINDS[kind])])]
    sentences = [opening(draw, noun, clauses[0])]
    place = 1
    while place < len(clauses):
        size = 1 + int(draw() * 2.4)
        sentences.append("，".join(clauses[place:place + size]) + "。")
        place += size
    if draw() < 0.5:
        sentences.append(closing(draw, noun))
    return "".join(sentences)


def make_rows(seed: int, counts: dict[str, int]) -> dict[str, list[dict[str, str]]]:
    """Returns ``{split: rows}`` of so many different inputs each, ``{"content": input, "summary": text}``; no input is
    in two splits."""
    draw, inputs = random.Random(seed).random, {}
    while len(inputs) < sum(counts.values()):
        attributes = draw_input(draw)
        inputs.setdefault(written(attributes), attributes)
    remaining = iter(inputs.items())
    return {split: [{"content": content, "summary": advertisement(draw, attributes)}
                    for content, attributes in (next(remaining) for _ in range(count))]
            for split, count in counts.items()}


def write_advertisements(folder: str | os.PathLike, seed: int) -> list[str]:
    """Writes ``{train,dev,test}.json`` into a folder, one row a line; returns a line for each of them."""
    lines = []
    for split, rows in make_rows(seed, COUNTS).items():
        path = os.path.join(folder, f"{split}.json")
        lines.append(f"{path}: {write_json_lines(path, rows)} rows")
    return lines
